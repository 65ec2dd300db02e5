//! Many pictures against the labels, as a heat map.

use leptos::prelude::*;

use super::store::{Picture, Status, store};
use crate::protocol::Scores;

/// From this heat on, light text stands out better.
const HOT: f32 = 0.55;

/// What the rows are ordered by.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    AsAdded,
    Name,
    /// By the cosine with this label, highest first.
    Label(usize),
}

/// What the cells show.
#[derive(Clone, Copy, PartialEq)]
enum Measure {
    Probability,
    Cosine,
}

/// The scores of a picture by the labels of now.
fn current(picture: &Picture, labels: &[String]) -> Option<Scores> {
    picture.status.with(|status| match status {
        Status::Ready {
            labels: of, scores, ..
        } if of == labels => Some(scores.clone()),
        _ => None,
    })
}

#[component]
fn Row(picture: Picture, measure: RwSignal<Measure>) -> impl IntoView {
    let store = store();
    let (id, name, url) = (picture.id, picture.name.clone(), picture.url);
    let cells = move || {
        let labels = store.labels.get();
        let Some(scores) = current(&picture, &labels) else {
            let waiting = picture.status.with(|status| match status {
                Status::Busy | Status::Ready { .. } => "…".to_owned(),
                Status::Cancelled => "not computed".to_owned(),
                Status::Failed(message) => message.clone(),
            });
            let span = labels.len().to_string();
            return view! { <td class="waiting" colspan=span>{waiting}</td> }.into_any();
        };
        let (measure, threshold) = (measure.get(), store.threshold.get());
        let best = scores.cosine.iter().copied().fold(f32::MIN, f32::max);
        let pairs = scores.cosine.iter().zip(&scores.probability);
        pairs
            .map(|(&cosine, &probability)| {
                let percent = probability * 100.0;
                let (text, heat) = match measure {
                    Measure::Probability => (format!("{percent:.0}"), probability),
                    Measure::Cosine => (format!("{cosine:.2}"), cosine.max(0.0)),
                };
                let hot = heat > HOT;
                let fits = cosine == best && cosine >= threshold;
                view! {
                    <td
                        class:hot=hot
                        class:best=fits
                        style=format!("--heat: {heat:.3}")
                        title=format!("cosine {cosine:.4}, probability {percent:.2} %")
                    >{text}</td>
                }
            })
            .collect_view()
            .into_any()
    };
    view! {
        <tr data-name=name.clone() on:click=move |_| store.open.set(Some(id))>
            <th scope="row">
                <button type="button" class="open" aria-label=format!("Show {name} large")>
                    <img src=move || url.get() alt="" loading="lazy"/>
                    <span>{name.clone()}</span>
                </button>
            </th>
            {cells}
        </tr>
    }
}

#[component]
pub(super) fn Matrix() -> impl IntoView {
    let store = store();
    let order = RwSignal::new(Order::AsAdded);
    let measure = RwSignal::new(Measure::Probability);
    let rows = move || {
        let labels = store.labels.get();
        let mut rows = store.pictures.get();
        match order.get() {
            Order::AsAdded => {}
            Order::Name => rows.sort_by(|a, b| a.name.cmp(&b.name)),
            Order::Label(column) => {
                let value = |picture: &Picture| {
                    let scores = current(picture, &labels);
                    scores.and_then(|scores| scores.cosine.get(column).copied())
                };
                let mut keyed: Vec<_> = rows.into_iter().map(|p| (value(&p), p)).collect();
                keyed.sort_by(|a, b| {
                    let [a, b] = [a.0, b.0].map(|value| value.unwrap_or(f32::MIN));
                    b.total_cmp(&a)
                });
                rows = keyed.into_iter().map(|(_, picture)| picture).collect();
            }
        }
        rows
    };
    let sort = move |by: Order| {
        order.update(|order| *order = if *order == by { Order::AsAdded } else { by });
    };
    let head = move || {
        let labels = store.labels.get().into_iter().enumerate();
        labels
            .map(|(column, label)| {
                let by = Order::Label(column);
                let sorted = move || if order.get() == by { "descending" } else { "none" };
                view! {
                    <th scope="col" aria-sort=sorted>
                        <button type="button" class="sort" on:click=move |_| sort(by)>{label}</button>
                    </th>
                }
            })
            .collect_view()
    };
    let named = move || {
        if order.get() == Order::Name {
            "ascending"
        } else {
            "none"
        }
    };
    let shows = move |of: Measure, name: &'static str| {
        view! {
            <button type="button" aria-pressed=move || (measure.get() == of).to_string() on:click=move |_| measure.set(of)>
                {name}
            </button>
        }
    };
    view! {
        <div class="matrix-bar">
            <div class="segments" role="group" aria-label="Cells show">
                {shows(Measure::Probability, "Probability, %")}
                {shows(Measure::Cosine, "Cosine")}
            </div>
            <p class="hint">"Choose a label to sort by it, a row to open the picture."</p>
        </div>
        <div class="matrix" tabindex="0" role="region" aria-label="Pictures by labels">
            <table>
                <thead>
                    <tr>
                        <th scope="col" aria-sort=named>
                            <button type="button" class="sort" on:click=move |_| sort(Order::Name)>"Picture"</button>
                        </th>
                        {head}
                    </tr>
                </thead>
                <tbody>
                    <For each=rows key=|picture| picture.id let(picture)>
                        <Row picture measure/>
                    </For>
                </tbody>
            </table>
        </div>
    }
}
