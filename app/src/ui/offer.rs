//! One model of the library, and what can be done with it.

use leptos::prelude::*;

use super::client;
use super::store::store;
use crate::protocol::{Fit, Offer, Place, Which};

/// Bytes for a person.
pub(super) fn megabytes(bytes: f64) -> String {
    match bytes {
        b if b >= 10e9 => format!("{:.0} GB", b / 1e9),
        b if b >= 1e9 => format!("{:.2} GB", b / 1e9),
        b if b >= 10e6 => format!("{:.0} MB", b / 1e6),
        b => format!("{:.1} MB", b / 1e6),
    }
}

/// A time to wait, for a person.
fn wait(seconds: f64) -> String {
    match seconds {
        s if s >= 5400.0 => format!("{:.1} h left", s / 3600.0),
        s if s >= 90.0 => format!("{:.0} min left", s / 60.0),
        s => format!("{s:.0} s left"),
    }
}

impl Fit {
    /// A word for style sheets and keys.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Barely(_) => "barely",
            Self::No(_) => "no",
        }
    }

    /// What it means to a person.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Yes => "Fits this device".to_owned(),
            Self::Barely(why) => format!("May be hard on this device: {why}"),
            Self::No(why) => format!("Does not fit this device: {why}"),
        }
    }
}

fn place_name(place: &Place) -> &'static str {
    match place {
        Place::Away => "away",
        Place::Paused { .. } => "paused",
        Place::Coming { .. } => "coming",
        Place::Here { .. } => "here",
    }
}

/// Bytes so far, speed and time, in one line.
fn progress(place: &Place) -> String {
    match place {
        Place::Coming {
            note: Some(note), ..
        } => format!("{note}…"),
        Place::Coming {
            done, total, rate, ..
        } => {
            let mut words = format!("{} of {}", megabytes(*done), megabytes(*total));
            if *rate > 0.0 {
                let left = wait((total - done) / rate);
                words = format!("{words} · {}/s · {left}", megabytes(*rate));
            }
            words
        }
        Place::Paused {
            done,
            total,
            message,
            ..
        } => {
            let here = format!("{} of {} are here.", megabytes(*done), megabytes(*total));
            match message {
                Some(message) if *done > 0.0 => format!("{message} {here}"),
                Some(message) => message.clone(),
                None => here,
            }
        }
        Place::Away | Place::Here { .. } => String::new(),
    }
}

/// A model, where it is, and its buttons.
#[component]
pub(super) fn OfferItem(offer: Offer) -> impl IntoView {
    let store = store();
    let Offer {
        id,
        name,
        publisher,
        licence,
        good_at,
        page,
        bytes,
        fit,
        kind: _,
    } = offer;
    let of = id.clone();
    let place = Memo::new(move |_| {
        let place = store.places.with(|all| all.get(&of).cloned());
        place.unwrap_or(Place::Away)
    });
    let kind = Memo::new(move |_| place.with(place_name));
    let size = (bytes > 0.0).then(|| megabytes(bytes));
    let facts = [Some(publisher), size, Some(licence)];
    let facts: Vec<String> = facts
        .into_iter()
        .flatten()
        .filter(|f| !f.is_empty())
        .collect();
    let (done, total) = (
        move || match place.get() {
            Place::Coming { done, .. } | Place::Paused { done, .. } => done,
            _ => 0.0,
        },
        move || match place.get() {
            Place::Coming { total, .. } | Place::Paused { total, .. } => total.max(1.0),
            _ => 1.0,
        },
    );
    let moving = move || matches!(kind.get(), "coming" | "paused");
    let bad = move || {
        matches!(
            place.get(),
            Place::Paused {
                message: Some(_),
                ..
            }
        )
    };
    let label = format!("Download of {name}");
    let unfit = matches!(fit, Fit::No(_));
    view! {
        <li class="offer" data-id=id.clone() data-place=move || kind.get()>
            <div class="offer-head">
                <h4>{match page.as_str() {
                    "" => name.clone().into_any(),
                    _ => view! { <a href=page target="_blank" rel="noreferrer">{name.clone()}</a> }.into_any(),
                }}</h4>
                <span class="hint">{facts.join(" · ")}</span>
            </div>
            <p class="offer-good">{good_at}</p>
            <p class="fit" data-fit=fit.name()>{fit.words()}</p>
            <Actions id=id.clone() name=name.clone() place kind unfit/>
            <Show when=moving>
                <div class="offer-progress" class:bad=bad>
                    <progress max=move || total().to_string() value=move || done().to_string() aria-label=label.clone()></progress>
                    <span>{move || place.with(progress)}</span>
                </div>
            </Show>
        </li>
    }
}

/// What can be done with a model where it is. The buttons change with the kind
/// of place alone, so that focus stays while bytes arrive.
#[component]
fn Actions(
    id: String,
    name: String,
    place: Memo<Place>,
    kind: Memo<&'static str>,
    unfit: bool,
) -> impl IntoView {
    let store = store();
    let button = move |class: &'static str, act: &'static str, word: &'static str| {
        let (id, name) = (id.clone(), name.clone());
        let label = format!("{word}: {name}");
        let run = move |_| {
            let id = id.clone();
            match act {
                "download" => client::download_model(store, id),
                "pause" => client::pause_model(id),
                "delete" => client::delete_model(id),
                "stream" => client::load_model(store, Which::Streamed(id)),
                _ => client::load_model(store, Which::Kept(id)),
            }
        };
        view! { <button type="button" class=class data-act=act aria-label=label on:click=run>{word}</button> }
    };
    // It can be had all the same, but is not what one is led to.
    let first = if unfit { "quiet small" } else { "small" };
    // Without a place to keep it, or without room there.
    let full = Memo::new(move |_| {
        let full = matches!(place.get(), Place::Paused { full: true, .. });
        full || !store.storage.get().there
    });
    view! {
        <div class="offer-do row">
            {move || match (kind.get(), full.get()) {
                ("away", true) => button(first, "stream", "Run without keeping").into_any(),
                ("away", false) => button(first, "download", if unfit { "Download anyway" } else { "Download" }).into_any(),
                ("coming", _) => view! {
                    {button("quiet small", "pause", "Pause")}
                    {button("quiet small", "delete", "Cancel")}
                }.into_any(),
                ("paused", full) => view! {
                    {full.then(|| button("small", "stream", "Run without keeping"))}
                    {button(if full { "quiet small" } else { "small" }, "download", "Continue")}
                    {button("quiet small", "delete", "Discard")}
                }.into_any(),
                _ => view! {
                    {button("small", "use", "Use")}
                    {button("quiet small", "delete", "Delete")}
                }.into_any(),
            }}
        </div>
    }
}
