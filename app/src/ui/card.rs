//! One picture and how well each label fits it.

use leptos::prelude::*;

use super::client;
use super::store::{Model, Picture, Status, ranked, store};
use crate::protocol::Timings;

fn took(timings: &Timings) -> String {
    format!(
        "decode {:.1} ms · resize {:.1} ms · encode {:.1} ms",
        timings.decode, timings.resize, timings.encode
    )
}

/// One label's bar. The bar shows the probability; the cosine stands beside it.
#[component]
fn Bar(label: String, cosine: f32, probability: f32, fits: bool, best: bool) -> impl IntoView {
    let percent = probability * 100.0;
    let name = label.clone();
    view! {
        <li
            class="bar"
            class:best=best && fits
            class:unfit=!fits
            data-label=name
            data-cosine=format!("{cosine:.7}")
            data-probability=format!("{probability:.7}")
        >
            <span class="bar-label">{label}</span>
            <span class="bar-track" aria-hidden="true">
                <span class="bar-fill" style:width=format!("{percent:.2}%")></span>
            </span>
            <span class="bar-percent">{format!("{percent:.1} %")}</span>
            <span class="bar-cosine" title="Cosine of the angle between picture and label">
                {format!("{cosine:+.3}")}
            </span>
        </li>
    }
}

/// The bars of a picture, or what there is instead.
#[component]
pub(super) fn Answer(picture: Picture) -> impl IntoView {
    let store = store();
    let status = picture.status;
    move || match status.get() {
        Status::Busy => {
            let waiting = match store.model.get() {
                Model::Ready(_) => "Computing…",
                Model::Loading => "Waiting for the model…",
                Model::Failed(_) | Model::Lost(_) => "Waiting: no model computes",
            };
            view! { <p class="state busy">{waiting}</p> }.into_any()
        }
        Status::Cancelled => {
            let picture = picture.clone();
            view! {
                <p class="state">
                    "Not computed. "
                    <button type="button" class="quiet" on:click=move |_| client::retry(&picture)>"Compute"</button>
                </p>
            }
            .into_any()
        }
        Status::Failed(message) => {
            view! { <p class="state failed" role="alert">{message}</p> }.into_any()
        }
        Status::Ready { labels, .. } if labels.is_empty() => {
            view! { <p class="state">"Add a label to see whether it fits."</p> }.into_any()
        }
        Status::Ready {
            labels,
            scores,
            timings,
        } => {
            let rows = ranked(&labels, &scores);
            let threshold = store.threshold.get();
            let none = rows.first().is_none_or(|row| row.1 < threshold);
            let verdict = match rows.first() {
                Some((label, ..)) if !none => view! { <p class="verdict">{label.clone()}</p> }.into_any(),
                _ => view! {
                    <p class="verdict none" title="The best cosine is below the threshold">"None of these"</p>
                }
                .into_any(),
            };
            let bars = rows
                .into_iter()
                .enumerate()
                .map(|(i, (label, cosine, probability))| {
                    let fits = cosine >= threshold;
                    view! { <Bar label cosine probability fits best=i == 0/> }
                })
                .collect_view();
            view! {
                {verdict}
                <ol class="bars" tabindex="0" aria-label="Labels, best first">{bars}</ol>
                <p class="timings">{took(&timings)}</p>
            }
            .into_any()
        }
    }
}

/// A picture with its answer.
#[component]
pub(super) fn Card(picture: Picture) -> impl IntoView {
    let store = store();
    let (id, name) = (picture.id, picture.name.clone());
    view! {
        <article class="picture-card" data-name=name.clone() aria-label=name.clone()>
            <div class="thumb">
                <button type="button" class="open" aria-label=format!("Show {name} large") on:click=move |_| store.open.set(Some(id))>
                    <img src=picture.url.clone() alt="" loading="lazy" decoding="async"/>
                </button>
            </div>
            <div class="answer">
                <header>
                    <h3 title=name.clone()>{name.clone()}</h3>
                    <button type="button" class="remove" aria-label=format!("Remove {name}") on:click=move |_| client::remove(store, id)>"×"</button>
                </header>
                <Answer picture/>
            </div>
        </article>
    }
}
