//! A look inside: where in which picture each word of an answer looked, and how
//! far the gates of the layers stand open.

use leptos::prelude::*;
use leptos::task::spawn_local;

use super::client;
use super::store::{Id, Outcome, chat, media_of};
use crate::protocol::PictureId;
use crate::protocol::chat::{Gaze, Seen};
use crate::ui::store::store;

#[component]
pub(super) fn Inside(id: Id) -> impl IntoView {
    let (store, chat) = (store(), chat());
    let turn = chat.turn(id);
    let waiting = RwSignal::new(false);
    let possible = Memo::new(move |_| {
        turn.get().is_some_and(|turn| {
            let done = !matches!(turn.outcome, Outcome::Busy);
            done && !turn.answer.trim().is_empty() && !media_of(&turn.prompt).is_empty()
        })
    });
    let gazes = Memo::new(move |_| chat.looks.with(|looks| looks.get(&id).cloned()));
    // The layer that is looked into; none is all of them.
    let layer = RwSignal::new(None::<usize>);
    let look = move || {
        let Some(turn) = turn.get_untracked().filter(|_| !waiting.get_untracked()) else {
            return;
        };
        waiting.set(true);
        spawn_local(async move {
            let layers = layer.get_untracked().into_iter().collect();
            match client::looked(turn.prompt, turn.answer, layers).await {
                Ok(gazes) => chat.looks.update(|looks| {
                    looks.insert(id, gazes);
                }),
                Err(message) => store.error.set(Some(message)),
            }
            waiting.set(false);
        });
    };
    let choose = move |event| {
        layer.set(event_target_value(&event).parse().ok());
        look();
    };
    let layers = move || chat.writer().map(|writer| writer.gates).unwrap_or_default();
    let toggled = move |event: web_sys::Event| {
        let open = event.target().is_some_and(|target| {
            js_sys::Reflect::get(&target, &"open".into()).is_ok_and(|open| open.is_truthy())
        });
        if open && gazes.with_untracked(Option::is_none) {
            look();
        }
    };
    view! {
        <Show when=move || possible.get() && chat.idle()>
            <details class="fold inside" on:toggle=toggled>
                <summary>"Look inside" <span class="hint">"where each word looked"</span></summary>
                <Show when=move || waiting.get()><p role="status" class="state">"Reading the answer once more…"</p></Show>
                {move || gazes.get().map(|gazes| view! { <Gazes gazes pictures=turn.get_untracked().map(|turn| media_of(&turn.prompt)).unwrap_or_default()/> })}
                <label class="field layers">
                    <span>"In"</span>
                    <select aria-label="Layers that are looked into" disabled=move || waiting.get() on:change=choose>
                        <option value="">"all layers, as far as their gates stand open"</option>
                        {move || layers().into_iter().map(|(layer, ..)| view! { <option value=layer.to_string()>{format!("layer {layer}")}</option> }).collect_view()}
                    </select>
                </label>
                <Gates/>
            </details>
        </Show>
    }
}

/// The words, and what the chosen one saw.
#[component]
fn Gazes(gazes: Vec<Gaze>, pictures: Vec<PictureId>) -> impl IntoView {
    let chosen = RwSignal::new(0_usize);
    let words: Vec<_> = gazes.iter().map(|gaze| gaze.word.clone()).collect();
    let gazes = StoredValue::new(gazes);
    let pictures = StoredValue::new(pictures);
    let seen = move || {
        let at = chosen.get();
        gazes
            .with_value(|gazes| gazes.get(at).map(|gaze| gaze.seen.clone()))
            .unwrap_or_default()
    };
    let said = move || {
        let (seen, all) = (seen(), pictures.with_value(Vec::len));
        let word =
            gazes.with_value(|gazes| gazes.get(chosen.get()).map(|g| g.word.trim().to_owned()));
        let word = word.unwrap_or_default();
        match seen.len() {
            0 => format!("“{word}” may see no picture: none stands before it."),
            1 => format!("“{word}” may see one of {all} pictures: the last before it."),
            n => format!("“{word}” may see {n} of {all} pictures."),
        }
    };
    view! {
        <div class="words" role="group" aria-label="Words of the answer">
            {words.into_iter().enumerate().map(|(at, word)| view! {
                <button
                    type="button"
                    aria-pressed=move || (chosen.get() == at).to_string()
                    on:click=move |_| chosen.set(at)
                    on:focus=move |_| chosen.set(at)
                >{if word.trim().is_empty() { "␣".to_owned() } else { word }}</button>
            }).collect_view()}
        </div>
        <p class="hint" aria-live="polite">{said}</p>
        <div class="gazed">
            {move || {
                let seen = seen();
                pictures.with_value(|pictures| pictures.iter().map(|&picture| {
                    let seen = seen.iter().find(|seen| seen.picture == picture).cloned();
                    view! { <Heat picture seen/> }
                }).collect_view())
            }}
        </div>
    }
}

/// A picture with what was looked at in it; pale where a word may not see it.
#[component]
fn Heat(picture: PictureId, seen: Option<Seen>) -> impl IntoView {
    let chat = chat();
    let urls = chat
        .media
        .with_untracked(|all| all.get(&picture).map(|media| media.urls.clone()));
    let urls = urls.unwrap_or_default();
    let label = match &seen {
        Some(seen) => format!("Looked at; {:.0} % of its attention", seen.share * 100.0),
        None => "Not seen by this word".to_owned(),
    };
    let unseen = seen.is_none();
    let frames = urls.into_iter().enumerate().map(|(frame, url)| {
        let cells = seen.as_ref().map(|seen| {
            let size = seen.rows * seen.columns;
            let most = seen.cells.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
            let cells = seen.cells.iter().skip(frame * size).take(size);
            let columns = seen.columns;
            let cells = cells.map(|cell| {
                let heat = cell / most;
                view! { <i style:opacity=format!("{:.3}", heat * 0.85)></i> }
            }).collect_view();
            // Models crop: cells are of a part of the picture.
            let [left, top, width, height] = seen.area.map(|part| format!("{:.2}%", part * 100.0));
            let grid = format!("repeat({columns}, 1fr)");
            view! {
                <span class="heat" aria-hidden="true" style:left=left style:top=top style:width=width style:height=height style:grid-template-columns=grid>{cells}</span>
            }
        });
        view! { <span class="gaze-frame"><img src=url alt=""/>{cells}</span> }
    }).collect_view();
    view! { <figure class="gaze" class:unseen-picture=unseen role="img" aria-label=label.clone() title=label>{frames}</figure> }
}

/// `tanh α` of each layer that looks at pictures.
#[component]
fn Gates() -> impl IntoView {
    let chat = chat();
    let rows = move || {
        let gates = chat.writer().map(|writer| writer.gates).unwrap_or_default();
        gates.into_iter().map(|(layer, attention, mlp)| {
            let bar = |value: f32| view! {
                <span class="gate" title=format!("{value:.3}")><span style:width=format!("{:.1}%", value.abs().min(1.0) * 100.0)></span></span>
                <span class="gate-value">{format!("{value:.3}")}</span>
            };
            view! {
                <tr>
                    <th scope="row">{format!("layer {layer}")}</th>
                    <td>{bar(attention)}</td>
                    <td>{bar(mlp)}</td>
                </tr>
            }
        }).collect_view()
    };
    let some = move || chat.writer().is_some_and(|writer| !writer.gates.is_empty());
    view! {
        <Show when=some>
            <table class="gates">
                <caption>"How far each layer's gates stand open (tanh α)"</caption>
                <thead><tr><th scope="col"><span class="unseen">"Layer"</span></th><th scope="col">"attention"</th><th scope="col">"MLP"</th></tr></thead>
                <tbody>{rows}</tbody>
            </table>
        </Show>
    }
}
