//! One picture and how well each label fits it.

use leptos::prelude::*;

use super::client;
use super::store::{Model, Picture, Status, ranked, store};
use super::web::cross;
use crate::protocol::Timings;

/// Bars that a card shows before it is asked for all.
const SHOWN: usize = 6;

fn took(timings: &Timings) -> String {
    format!(
        "decode {:.1} ms · resize {:.1} ms · encode {:.1} ms",
        timings.decode, timings.resize, timings.encode
    )
}

/// What there is to show, without the numbers: these change while one draws,
/// and the bars should move rather than be made anew.
#[derive(Clone, PartialEq)]
enum Phase {
    Busy,
    Cancelled,
    Failed(String),
    NoLabels,
    Ready,
}

fn phase(status: &Status) -> Phase {
    match status {
        Status::Busy => Phase::Busy,
        Status::Cancelled => Phase::Cancelled,
        Status::Failed(message) => Phase::Failed(message.clone()),
        Status::Ready { labels, .. } if labels.is_empty() => Phase::NoLabels,
        Status::Ready { .. } => Phase::Ready,
    }
}

/// Labels, cosines and probabilities, best first.
type Rows = Vec<(String, f32, f32)>;

fn rows(picture: &Picture) -> Memo<Rows> {
    let status = picture.status;
    Memo::new(move |_| {
        status.with(|status| match status {
            Status::Ready { labels, scores, .. } => ranked(labels, scores),
            _ => Rows::new(),
        })
    })
}

/// One label's bar: the broad one is the probability, the thin one the cosine,
/// with a mark at the threshold.
#[component]
fn Bar(label: String, rows: Memo<Rows>) -> impl IntoView {
    let store = store();
    let key = label.clone();
    let place = Memo::new(move |_| {
        rows.with(|rows| {
            let at = rows.iter().position(|row| row.0 == key)?;
            Some((at, rows[at].1, rows[at].2))
        })
        .unwrap_or_default()
    });
    let cosine = move || place.get().1;
    let percent = move || place.get().2 * 100.0;
    let fits = move || cosine() >= store.threshold.get();
    view! {
        <li
            class="bar"
            class:best=move || place.get().0 == 0 && fits()
            class:unfit=move || !fits()
            data-label=label.clone()
            data-cosine=move || format!("{:.7}", cosine())
            data-probability=move || format!("{:.7}", place.get().2)
        >
            <span class="bar-label" title=label.clone()>{label.clone()}</span>
            <span class="bar-track" aria-hidden="true">
                <span class="bar-fill" style:width=move || format!("{:.2}%", percent())></span>
                <span class="bar-thin" style:width=move || format!("{:.2}%", cosine().max(0.0) * 100.0)></span>
                <span class="bar-mark" style:left=move || format!("{:.1}%", store.threshold.get().max(0.0) * 100.0)></span>
            </span>
            <span class="bar-percent">{move || format!("{:.1} %", percent())}</span>
            <span class="bar-cosine">
                <span class="unseen">"cosine "</span>
                {move || format!("{:.3}", cosine())}
            </span>
        </li>
    }
}

/// The best label, or that none fits.
#[component]
#[expect(
    clippy::needless_pass_by_value,
    reason = "leptos passes properties by value"
)]
pub(super) fn Verdict(picture: Picture) -> impl IntoView {
    let store = store();
    let rows = rows(&picture);
    let status = picture.status;
    let best = Memo::new(move |_| {
        let threshold = store.threshold.get();
        rows.with(|rows| {
            let (label, cosine, _) = rows.first()?;
            (*cosine >= threshold).then(|| label.clone())
        })
    });
    let known = move || status.with(|status| phase(status) == Phase::Ready);
    view! {
        <p class="verdict" class:none=move || known() && best.get().is_none()>
            {move || match best.get() {
                Some(label) => label,
                None if known() => "None of these".to_owned(),
                None => "\u{a0}".to_owned(),
            }}
        </p>
    }
}

/// The bars of a picture, or what there is instead.
#[component]
pub(super) fn Answer(picture: Picture, #[prop(optional)] all: bool) -> impl IntoView {
    let store = store();
    let status = picture.status;
    let now = Memo::new(move |_| status.with(phase));
    let rows = rows(&picture);
    let whole = RwSignal::new(all);
    let timings = move || {
        status.with(|status| match status {
            Status::Ready { timings, .. } => took(timings),
            _ => String::new(),
        })
    };
    move || {
        match now.get() {
        Phase::Busy => {
            let waiting = move || match store.model.get() {
                Model::Ready(_) => "Computing…",
                Model::Loading(_) => "Waiting for the model…",
                Model::Failed(_) | Model::Lost(_) => "Waiting: no model computes",
            };
            view! { <p class="state busy">{waiting}</p> }.into_any()
        }
        Phase::Cancelled => {
            let picture = picture.clone();
            view! {
                <p class="state">
                    "Not computed. "
                    <button type="button" class="quiet small" on:click=move |_| client::retry(&picture)>"Compute"</button>
                </p>
            }
            .into_any()
        }
        Phase::Failed(message) => view! { <p class="state failed">{message}</p> }.into_any(),
        Phase::NoLabels => {
            view! { <p class="state">"Add a label to see whether it fits."</p> }.into_any()
        }
        Phase::Ready => view! {
            <ol class="bars" class:whole=move || whole.get() aria-label="Labels, best first">
                <For each=move || rows.get() key=|row| row.0.clone() let(row)>
                    <Bar label=row.0 rows/>
                </For>
            </ol>
            <div class="card-foot">
                <span class="timings">{timings}</span>
                <Show when=move || !all && rows.with(|rows| rows.len() > SHOWN)>
                    <button type="button" class="text" aria-expanded=move || whole.get().to_string() on:click=move |_| whole.update(|w| *w = !*w)>
                        {move || if whole.get() { "Fewer".to_owned() } else { format!("All {}", rows.with(Vec::len)) }}
                    </button>
                </Show>
            </div>
        }
        .into_any(),
    }
    }
}

/// A picture with its answer.
#[component]
pub(super) fn Card(picture: Picture) -> impl IntoView {
    let store = store();
    let (id, name) = (picture.id, picture.name.clone());
    let (url, status) = (picture.url, picture.status);
    let broken = move || status.with(|status| matches!(status, Status::Failed(_)));
    view! {
        <article class="picture-card" data-name=name.clone() aria-label=name.clone() aria-busy=move || status.with(|s| *s == Status::Busy).to_string()>
            <div class="card-head">
                <button type="button" class="thumb" class:broken=broken aria-label=format!("Show {name} large") on:click=move |_| store.open.set(Some(id))>
                    <img src=move || url.get() alt="" loading="lazy" decoding="async"/>
                </button>
                <div class="card-title">
                    <h3 title=name.clone()>{name.clone()}</h3>
                    <Verdict picture=picture.clone()/>
                </div>
                <button type="button" class="remove" aria-label=format!("Remove {name}") on:click=move |_| client::remove(store, id)>{cross()}</button>
            </div>
            <Answer picture/>
        </article>
    }
}
