//! How an answer came about: its versions, its figures, what wrote it, the
//! examples that were chosen for it, and its exact prompt.

use leptos::prelude::*;

use super::choices::Likelihoods;
use super::cut::was_left_out;
use super::store::{Id, chat, media_of, text_of};
use super::version::{By, Example, Outcome, Similar, Turn, Version};
use crate::protocol::PictureId;
use crate::protocol::chat::{Ended, Pace};
use crate::ui::store::store;
use crate::ui::web::{icon, take_along};

/// Figures of an answer that was written.
fn figures(ended: Ended, pace: Pace) -> String {
    let seconds = |milliseconds: f64| milliseconds / 1000.0;
    let mut parts = Vec::new();
    if pace.prompt > 0 {
        parts.push(format!("{} tokens read", pace.prompt));
    }
    if pace.prompt > 0 && pace.written == 0 {
        parts.push(format!("ended after {:.2} s", seconds(pace.total)));
    } else if pace.first > 0.0 {
        parts.push(format!("first word after {:.2} s", seconds(pace.first)));
    }
    // What the page ended by itself was not counted.
    if pace.prompt > 0 {
        parts.push(format!("{} written", pace.written));
    }
    // The first token is of another kind: the prompt is read for it.
    let spent = pace.total - pace.first;
    if pace.written >= 2 && spent > 0.0 {
        let rate = (pace.written - 1) as f64 / seconds(spent);
        parts.push(format!("{rate:.1} tokens/s"));
    }
    match ended {
        Ended::Itself => {}
        Ended::Length => parts.push("as long as allowed".to_owned()),
        Ended::Stopped => parts.push("stopped".to_owned()),
    }
    parts.join(" · ")
}

/// How the version that is shown came about.
#[component]
pub(super) fn Made(id: Id, version: Memo<Version>) -> impl IntoView {
    let outcome = Memo::new(move |_| version.with(|version| version.outcome.clone()));
    let by = Memo::new(move |_| version.with(|version| version.by.clone()));
    let similar = Memo::new(move |_| version.with(|version| version.similar.clone()));
    let left_out = Memo::new(move |_| version.with(|version| version.left_out));
    let exact = Memo::new(move |_| version.with(|version| version.exact.clone()));
    view! {
        {move || match outcome.get() {
            Outcome::Busy | Outcome::Edited => ().into_any(),
            Outcome::Written { ended, pace } => view! { <p class="timings" data-memory=pace.memory.to_string() data-gpu=pace.gpu.to_string()>{figures(ended, pace)}</p> }.into_any(),
            Outcome::Scored { likely, orders, milliseconds } => view! { <Likelihoods likely orders milliseconds/> }.into_any(),
            Outcome::Failed(message) => view! { <p class="state failed">{message}</p> }.into_any(),
        }}
        {move || (outcome.get() == Outcome::Edited).then(|| view! { <p class="by hint">"You wrote this answer"</p> })}
        {move || by.get().map(|By { model, device, settings }| view! { <p class="by hint">{format!("{model} · {device} · {settings}")}</p> })}
        {move || was_left_out(left_out.get()).map(|said| view! { <p class="hint left-out">{said}</p> })}
        {move || similar.get().map(|similar| view! { <Chosen similar/> })}
        <Show when=move || !exact.with(String::is_empty)><Exact id exact/></Show>
    }
}

/// Steps through the versions of an answer.
#[component]
pub(super) fn Versions(id: Id, turn: Memo<Option<Turn>>) -> impl IntoView {
    let (store, chat) = (store(), chat());
    let place = Memo::new(move |_| turn.get().map_or((1, 1), |turn| turn.place()));
    // They stay in reach of the keys at either end.
    let first = move || place.get().0 == 1;
    let last = move || place.get().0 == place.get().1;
    let step = move |back: bool| {
        let end = if back { first() } else { last() };
        if end || !chat.idle() {
            return;
        }
        chat.change_turn(id, |turn| {
            turn.step(back);
            turn.trouble = None;
        });
        chat.forget_looks(id);
        let (at, all) = place.get_untracked();
        store.announcement.set(format!("Version {at} of {all}"));
    };
    view! {
        <Show when=move || { place.get().1 > 1 }>
            <div class="versions" role="group" aria-label="Versions of this answer">
                <button type="button" class="text" data-act="earlier" aria-label="The version before" title="The version before" aria-disabled=move || (first() || !chat.idle()).to_string() on:click=move |_| step(true)>"‹"</button>
                <span data-place=move || place.get().0.to_string()><span class="unseen">"Version "</span>{move || { let (at, all) = place.get(); format!("{at}/{all}") }}</span>
                <button type="button" class="text" data-act="later" aria-label="The next version" title="The next version" aria-disabled=move || (last() || !chat.idle()).to_string() on:click=move |_| step(false)>"›"</button>
                <span class="hint">"The conversation goes on from the one that is shown"</span>
            </div>
        </Show>
    }
}

/// The examples that were chosen for an answer, and why.
#[component]
fn Chosen(similar: Similar) -> impl IntoView {
    let Similar { by, examples } = similar;
    let count = match examples.len() {
        1 => "1 example was chosen".to_owned(),
        n => format!("{n} examples were chosen"),
    };
    view! {
        <details class="fold chosen-examples">
            <summary>{count} " " <span class="hint">{format!("as the most similar to the picture, by {by}")}</span></summary>
            <p class="hint">"The most similar stands last, next to the question. 1 is the same direction as the picture that was asked about, 0 nothing in common."</p>
            <ol role="list">
                {examples.into_iter().map(|example| view! { <ChosenOne example/> }).collect_view()}
            </ol>
        </details>
    }
}

#[component]
fn ChosenOne(example: Example) -> impl IntoView {
    let Example {
        parts,
        answer,
        cosine,
    } = example;
    let pictures = media_of(&parts).into_iter();
    let words = format!("{} {answer}", text_of(&parts).trim());
    view! {
        <li data-cosine=format!("{cosine:.3}")>
            {pictures.map(|id| view! { <Small id/> }).collect_view()}
            <span>{words.trim().to_owned()}</span>
            <span class="hint">{format!("cosine {cosine:.3}")}</span>
        </li>
    }
}

/// The first frame of a picture, small.
#[component]
pub(super) fn Small(id: PictureId) -> impl IntoView {
    let chat = chat();
    let url = move || {
        chat.media
            .with(|all| all.get(&id).and_then(|media| media.urls.first().cloned()))
    };
    view! { {move || url().map(|url| view! { <img class="small-picture" src=url alt=""/> })} }
}

/// The text that the tokenizer was given.
#[component]
fn Exact(id: Id, exact: Memo<String>) -> impl IntoView {
    let store = store();
    let copied = RwSignal::new(false);
    view! {
        <details class="fold raw">
            <summary>"The exact prompt" <span class="hint">"as the model read it"</span></summary>
            <pre data-exact=id.to_string() tabindex="0">{exact}</pre>
            <button type="button" class="text" data-act="copy-prompt" on:click=move |_| take_along(store, &exact.get_untracked(), copied)>
                {icon("M8 8h11v11H8zM16 8V5H5v11h3")} {move || if copied.get() { "Copied" } else { "Copy the prompt" }}
            </button>
        </details>
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::{Ended, Pace, figures};

    #[wasm_bindgen_test]
    fn figures_say_what_was_measured() {
        let pace = |prompt, written, first, total| Pace {
            prompt,
            written,
            first,
            total,
            ..Pace::default()
        };
        assert_eq!(
            figures(Ended::Itself, pace(9, 1, 250.0, 300.0)),
            "9 tokens read · first word after 0.25 s · 1 written"
        );
        assert_eq!(
            figures(Ended::Length, pace(9, 2, 250.0, 350.0)),
            "9 tokens read · first word after 0.25 s · 2 written · 10.0 tokens/s · as long as allowed"
        );
        // Beams come all at once.
        assert_eq!(
            figures(Ended::Itself, pace(9, 6, 400.0, 400.0)),
            "9 tokens read · first word after 0.40 s · 6 written"
        );
        assert_eq!(figures(Ended::Stopped, pace(0, 0, 0.0, 0.0)), "stopped");
        assert_eq!(
            figures(Ended::Stopped, pace(0, 0, 120.0, 900.0)),
            "first word after 0.12 s · stopped"
        );
    }
}
