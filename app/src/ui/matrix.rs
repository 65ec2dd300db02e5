//! Many pictures against the labels, as a heat map.

use leptos::prelude::*;

use super::store::{Status, store};

/// What the rows are ordered by.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    AsAdded,
    /// By the cosine with this label, highest first.
    Label(usize),
}

#[component]
pub(super) fn Matrix() -> impl IntoView {
    let store = store();
    let order = RwSignal::new(Order::AsAdded);
    let rows = move || {
        let labels = store.labels.get();
        let mut rows: Vec<_> = store
            .pictures
            .get()
            .into_iter()
            .filter_map(|picture| match picture.status.get() {
                Status::Ready {
                    labels: of, scores, ..
                } if of == labels => Some((picture, scores)),
                _ => None,
            })
            .collect();
        if let Order::Label(column) = order.get() {
            let value = |scores: &crate::protocol::Scores| {
                scores.cosine.get(column).copied().unwrap_or(0.0)
            };
            rows.sort_by(|a, b| value(&b.1).total_cmp(&value(&a.1)));
        }
        rows
    };
    let sort = move |column: usize| {
        order.update(|order| {
            *order = if *order == Order::Label(column) {
                Order::AsAdded
            } else {
                Order::Label(column)
            };
        });
    };
    let head = move || {
        store.labels.get().into_iter().enumerate().map(|(column, label)| {
            let sorted = move || if order.get() == Order::Label(column) { "descending" } else { "none" };
            view! {
                <th scope="col" aria-sort=sorted>
                    <button type="button" class="sort" on:click=move |_| sort(column)>{label}</button>
                </th>
            }
        }).collect_view()
    };
    let body = move || {
        rows().into_iter().map(|(picture, scores)| {
            let (id, name) = (picture.id, picture.name.clone());
            let cells = scores.cosine.iter().zip(&scores.probability).map(|(&cosine, &probability)| {
                let heat = format!("--heat: {probability:.3}");
                view! {
                    <td style=heat title=format!("cosine {cosine:+.3}, probability {:.1} %", probability * 100.0)>
                        {format!("{:.0}", probability * 100.0)}
                    </td>
                }
            }).collect_view();
            view! {
                <tr>
                    <th scope="row">
                        <button type="button" class="open" on:click=move |_| store.open.set(Some(id))>
                            <img src=picture.url alt="" loading="lazy"/>
                            <span>{name}</span>
                        </button>
                    </th>
                    {cells}
                </tr>
            }
        }).collect_view()
    };
    view! {
        <div class="matrix" tabindex="0" role="region" aria-label="Pictures by labels">
            <table>
                <caption>"Probability in per cent. Choose a label to sort by how well it fits, a picture to see it."</caption>
                <thead><tr><td></td>{head}</tr></thead>
                <tbody>{body}</tbody>
            </table>
        </div>
    }
}
