//! A look inside: where in which picture each word of an answer looked, which
//! picture each word of the prompt may see, and how far the gates of the layers
//! stand open.

use leptos::prelude::*;
use leptos::task::spawn_local;

use super::looks::{Looks, Place, look};
use super::made::Small;
use super::store::{Id, chat, media_of};
use super::version::{Outcome, Version};
use crate::protocol::PictureId;
use crate::protocol::chat::{Gaze, STOPPED, Seen};
use crate::ui::store::store;

/// Whether a fold that was clicked is open.
fn is_open(event: &web_sys::Event) -> bool {
    event.target().is_some_and(|target| {
        js_sys::Reflect::get(&target, &"open".into()).is_ok_and(|open| open.is_truthy())
    })
}

/// Said where the model that is loaded is not the one that wrote the answer.
fn stranger(version: &Version, now: &str) -> Option<String> {
    let who = match (&version.by, &version.outcome) {
        (Some(by), _) if by.model == now => return None,
        (Some(by), _) => format!("{} wrote this answer, and {now} is loaded now", by.model),
        (None, Outcome::Edited) => "You wrote this answer yourself".to_owned(),
        (None, _) => "Which model wrote this answer was not kept".to_owned(),
    };
    let whose = "gates and heat are its own, not those of the one that wrote";
    Some(format!("{who}. You can see how {now} reads it: {whose}."))
}

#[component]
pub(super) fn Inside(id: Id) -> impl IntoView {
    let (store, chat) = (store(), chat());
    let turn = chat.turn(id);
    let version = Memo::new(move |_| turn.get().map(|turn| turn.version).unwrap_or_default());
    let possible = move || {
        version.with(|version| {
            let done = version.outcome != Outcome::Busy;
            done && version.says_something() && !media_of(&version.prompt).is_empty()
        })
    };
    let (open, waiting) = (RwSignal::new(false), RwSignal::new(false));
    let prompt_open = RwSignal::new(false);
    // The layer that is looked into; none is all of them.
    let layer = RwSignal::new(None::<usize>);
    let now = Memo::new(move |_| chat.writer().map(|writer| writer.name));
    let stranger = Memo::new(move |_| version.with(|version| stranger(version, &now.get()?)));
    // What was said when the person wanted to look all the same.
    let agreed = RwSignal::new(None::<String>);
    let may = Memo::new(move |_| {
        let stranger = stranger.get();
        now.get().is_some() && (stranger.is_none() || stranger == agreed.get())
    });
    let ask = move || {
        if waiting.get_untracked() {
            return;
        }
        waiting.set(true);
        spawn_local(async move {
            // Another version may be shown when this one has been looked into.
            while let Some(asked) = version.try_get_untracked() {
                let layers = layer.get_untracked().into_iter().collect();
                let prompt_too = move || prompt_open.try_get_untracked() == Some(true);
                let done = look(chat, id, asked.clone(), layers, prompt_too).await;
                if let Err(message) = done {
                    if message != STOPPED {
                        store.error.set(Some(message));
                    }
                    break;
                }
                if version.try_get_untracked() == Some(asked) {
                    break;
                }
            }
            let _ = waiting.try_set(false);
        });
    };
    // Whenever another model, version or layer is looked into.
    Effect::new(move |_| {
        if !chat.idle() {
            // The fold goes from the page, and comes back closed.
            open.set(false);
            prompt_open.set(false);
            return;
        }
        version.track();
        prompt_open.track();
        layer.track();
        if open.get() && may.get() {
            ask();
        }
    });
    let choose = move |event| {
        chat.forget_looks(id);
        layer.set(event_target_value(&event).parse().ok());
    };
    let layers = move || chat.writer().map(|writer| writer.gates).unwrap_or_default();
    view! {
        <Show when=move || possible() && chat.idle()>
            <details class="fold inside" on:toggle=move |event| open.set(is_open(&event))>
                <summary>"Look inside" <span class="hint">"where each word looked"</span></summary>
                {move || stranger.get().map(|said| {
                    let with = now.get().unwrap_or_default();
                    let same = said.clone();
                    view! {
                        <p class="stranger" role="note">{said}</p>
                        <Show when=move || !may.get()>
                            <button type="button" class="quiet small" data-act="look-anyway" on:click={
                                let same = same.clone();
                                move |_| agreed.set(Some(same.clone()))
                            }>{format!("Look with {with}")}</button>
                        </Show>
                    }
                })}
                <Show when=move || may.get()>
                    <Show when=move || waiting.get()><p role="status" class="state">"Reading it once more…"</p></Show>
                    <Gazes id version prompt_open/>
                    <label class="field layers">
                        <span>"In"</span>
                        <select aria-label="Layers that are looked into" disabled=move || waiting.get() on:change=choose>
                            <option value="">"all layers, as far as their gates stand open"</option>
                            {move || layers().into_iter().map(|(at, ..)| view! { <option value=at.to_string() selected=move || layer.get() == Some(at)>{format!("layer {at}")}</option> }).collect_view()}
                        </select>
                    </label>
                    <Gates/>
                </Show>
            </details>
        </Show>
    }
}

/// The words, and what the chosen one saw.
#[component]
fn Gazes(id: Id, version: Memo<Version>, prompt_open: RwSignal<bool>) -> impl IntoView {
    let chat = chat();
    let looks = Memo::new(move |_| {
        let looks = chat.looks.with(|all| all.get(&id).cloned());
        looks.unwrap_or_default()
    });
    let chosen = RwSignal::new(Place::Answer(0));
    let pictures = Memo::new(move |_| version.with(|version| media_of(&version.prompt)));
    let answer = Memo::new(move |_| looks.with(|looks| words(&looks.answer)));
    let stretches = move || 0..looks.with(|looks| looks.prompt.len());
    let gaze = Memo::new(move |_| looks.with(|looks| looks.at(chosen.get()).cloned()));
    let said = move || {
        let gaze = gaze.get()?;
        let (word, all) = (gaze.word.trim().to_owned(), pictures.with(Vec::len));
        Some(match gaze.seen.len() {
            0 => format!("“{word}” may see no picture: none stands before it."),
            1 => format!("“{word}” may see one of {all} pictures: the last before it."),
            n => format!("“{word}” may see {n} of {all} pictures."),
        })
    };
    view! {
        <div class="words" role="group" aria-label="Words of the answer">
            {move || answer.get().into_iter().enumerate().map(|(at, word)| view! { <Word word place=Place::Answer(at) chosen/> }).collect_view()}
        </div>
        <details class="fold prompt-words" on:toggle=move |event| prompt_open.set(is_open(&event))>
            <summary>"The words of the prompt" <span class="hint">"and which picture each of them may see"</span></summary>
            <div class="words" role="group" aria-label="Words of the prompt">
                <For each=stretches key=|at| *at let(at)>
                    <Words at looks chosen/>
                </For>
            </div>
        </details>
        <p class="hint said" aria-live="polite">{said}</p>
        <div class="gazed">
            {move || {
                let seen = gaze.get().map(|gaze| gaze.seen).unwrap_or_default();
                let heat = |picture| {
                    let seen = seen.iter().find(|seen| seen.picture == picture).cloned();
                    view! { <Heat picture seen/> }
                };
                gaze.get().map(|_| pictures.get().into_iter().map(heat).collect_view())
            }}
        </div>
    }
}

fn words(gazes: &[Gaze]) -> Vec<String> {
    gazes.iter().map(|gaze| gaze.word.clone()).collect()
}

/// A stretch of the prompt, behind the pictures that stand before it.
#[component]
fn Words(at: usize, looks: Memo<Looks>, chosen: RwSignal<Place>) -> impl IntoView {
    let stretch = Memo::new(move |_| {
        looks.with(|looks| {
            let stretch = looks.prompt.get(at);
            let parts = stretch.map(|s| (s.pictures.clone(), words(&s.words)));
            parts.unwrap_or_default()
        })
    });
    move || {
        let (pictures, words) = stretch.get();
        view! {
            {pictures.into_iter().map(|id| view! { <Small id/> }).collect_view()}
            {words.into_iter().enumerate().map(|(nth, word)| view! { <Word word place=Place::Prompt(at, nth) chosen/> }).collect_view()}
        }
    }
}

#[component]
fn Word(word: String, place: Place, chosen: RwSignal<Place>) -> impl IntoView {
    let word = if word.trim().is_empty() {
        "␣".to_owned()
    } else {
        word
    };
    view! {
        <button
            type="button"
            aria-pressed=move || (chosen.get() == place).to_string()
            on:click=move |_| chosen.set(place)
            on:focus=move |_| chosen.set(place)
        >{word}</button>
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
    let whose = move || {
        let name = chat.writer().map(|writer| writer.name).unwrap_or_default();
        format!("How far the gates of each layer stand open in {name} (tanh α)")
    };
    let some = move || chat.writer().is_some_and(|writer| !writer.gates.is_empty());
    view! {
        <Show when=some>
            <table class="gates">
                <caption>{whose}</caption>
                <thead><tr><th scope="col"><span class="unseen">"Layer"</span></th><th scope="col">"attention"</th><th scope="col">"MLP"</th></tr></thead>
                <tbody>{rows}</tbody>
            </table>
        </Show>
    }
}
