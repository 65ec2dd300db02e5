//! The library: which models there are, which are here, and how to get one.

use leptos::html::{Dialog, Input};
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::HtmlElement;

use super::findings::Findings;
use super::flamingos::Flamingos;
use super::intake::take;
use super::offer::{OfferItem, megabytes};
use super::store::{Check, Job, Model, store};
use super::web::{cross, files};
use super::{chat, client};
use crate::protocol::{Kind, Offer, Place, Which};

/// Groups by the bytes one has to wait for.
const GROUPS: &[(&str, f64, f64)] = &[
    ("Small, up to 400 MB", 0.0, 400e6),
    ("Medium, up to 1 GB", 400e6, 1e9),
    ("Large", 1e9, f64::INFINITY),
];

/// Whether every word of a search is somewhere in an offer.
fn found(offer: &Offer, search: &str) -> bool {
    let Offer {
        name,
        publisher,
        licence,
        good_at,
        id,
        ..
    } = offer;
    let text = format!("{name} {publisher} {licence} {good_at} {id}").to_lowercase();
    search
        .to_lowercase()
        .split_whitespace()
        .all(|word| text.contains(word))
}

/// Which model computes, and all the others.
#[component]
pub(super) fn LibraryDialog(dialog: NodeRef<Dialog>) -> impl IntoView {
    let store = store();
    let close = move || {
        if let Some(dialog) = dialog.get_untracked() {
            dialog.close();
        }
    };
    // A click beside the dialog closes it.
    let beside = move |event: web_sys::MouseEvent| {
        let target = event
            .target()
            .and_then(|t| t.dyn_into::<HtmlElement>().ok());
        if target.is_some_and(|target| target.tag_name() == "DIALOG") {
            close();
        }
    };
    // What the page says behind the dialog is said here as well.
    let failed = move || {
        let message = store.library_error.get().or_else(|| store.error.get());
        message.map(|message| {
            view! { <p class="notice" role="alert" id="library-error">{message}</p> }
        })
    };
    view! {
        <dialog id="model-dialog" class="library" node_ref=dialog aria-labelledby="model-title" on:click=beside>
            <header>
                <h2 id="model-title">"Models"</h2>
                <button type="button" class="remove" aria-label="Close" on:click=move |_| close()>{cross()}</button>
            </header>
            {move || match store.job.get() {
                Job::Classify => view! { <Now/> }.into_any(),
                Job::Chat => view! { <Writes/> }.into_any(),
            }}
            {failed}
            <Shelf/>
            <Show when=move || store.job.get() == Job::Chat><Flamingos/></Show>
            <Elsewhere close=Callback::new(move |()| close())/>
            <Kept/>
        </dialog>
    }
}

fn loading(part: f64) -> String {
    format!("A model is being loaded: {:.0} %.", part * 100.0)
}

/// The model that writes now.
#[component]
fn Writes() -> impl IntoView {
    let store = store();
    let model = store.chat.model;
    let about = move || match model.get() {
        Model::Ready(writer) => format!(
            "{} writes now: it reads up to {} tokens, sees a picture as {} of its own, keeps {} of \
             weights, was loaded in {:.1} s and runs on {}.",
            writer.name,
            writer.context,
            writer.tokens_per_image,
            megabytes(writer.weights),
            writer.milliseconds / 1000.0,
            writer.device
        ),
        Model::Loading(part) => loading(part),
        Model::Failed(message) | Model::Lost(message) => message,
    };
    let memory = move || match model.get() {
        Model::Ready(writer) => writer.memory.to_string(),
        _ => String::new(),
    };
    let own = move || matches!(model.get(), Model::Ready(writer) if !writer.demo);
    view! {
        <section class="now" data-memory=memory>
            <p>{about}</p>
            <p class="hint">
                "The model that comes with this page is small and knows drawings of everyday things. For photographs "
                "take an OpenFlamingo or one of its kin: "<code>"plume pack"</code>" makes one GGUF file of what is published, as is shown below."
            </p>
            <Show when=own>
                <div class="row">
                    <KeepOwn/>
                    <button type="button" class="quiet small" id="demo-writer" on:click=move |_| client::load_model(store, Which::Demo)>"Back to the drawings model"</button>
                </div>
            </Show>
        </section>
    }
}

/// The model that computes now.
#[component]
fn Now() -> impl IntoView {
    let store = store();
    let about = move || match store.model.get() {
        Model::Ready(loaded) => format!(
            "{} computes now: it sees {} × {} pixels, was loaded in {:.1} s and runs on {}.",
            loaded.name,
            loaded.image_size,
            loaded.image_size,
            loaded.milliseconds / 1000.0,
            loaded.device
        ),
        Model::Loading(part) => loading(part),
        Model::Failed(message) | Model::Lost(message) => message,
    };
    let own = move || matches!(store.model.get(), Model::Ready(loaded) if !loaded.demo);
    let ready = move || matches!(store.model.get(), Model::Ready(_));
    let memory = move || match store.model.get() {
        Model::Ready(loaded) => loaded.memory.to_string(),
        _ => String::new(),
    };
    let outcome = move || match store.check.get() {
        Check::Not => String::new(),
        Check::Running => "Comparing every operation with its reference…".to_owned(),
        Check::Done { said, .. } => said,
    };
    view! {
        <section class="now" data-memory=memory>
            <p>{about}</p>
            <p class="hint">
                "The model that comes with this page is small and knows drawings of everyday things, not photographs. "
                "For photographs take one of these."
            </p>
            <div class="row">
                <button type="button" class="quiet small" id="check-model" disabled=move || !ready() || store.check.get() == Check::Running on:click=move |_| client::check(store)>
                    "Check it on this device"
                </button>
                <Show when=own>
                    <KeepOwn/>
                    <button type="button" class="quiet small" id="demo-model" on:click=move |_| client::load_model(store, Which::Demo)>"Back to the drawings model"</button>
                </Show>
                <span class="hint" id="check-outcome" role="status">{outcome}</span>
            </div>
            <Findings/>
        </section>
    }
}

/// Keeps what was opened from disk for the next visit.
#[component]
fn KeepOwn() -> impl IntoView {
    let store = store();
    let own = move || match store.job.get() {
        Job::Classify => {
            store.model.track();
            client::is_own()
        }
        Job::Chat => {
            store.chat.model.track();
            chat::client::is_own()
        }
    };
    let there = move || store.storage.get().there;
    view! {
        <Show when=move || own() && there()>
            <button type="button" class="small" id="keep-own" title="Copies it into this browser, so that the next visit begins with it" on:click=move |_| client::keep_model(store)>"Keep a copy on this device"</button>
        </Show>
    }
}

/// Everything that is offered, by size.
#[component]
fn Shelf() -> impl IntoView {
    let store = store();
    let search = RwSignal::new(String::new());
    // Those of the job of now; what came by its address may be of either kind.
    let of_job = move || {
        let other = match store.job.get() {
            Job::Classify => Kind::Flamingo,
            Job::Chat => Kind::Clip,
        };
        let mut offers = store.offers.get();
        offers.retain(|offer| offer.kind != Some(other));
        offers
    };
    let in_group = move |low: f64, high: f64| {
        let search = search.get();
        let fits = |o: &Offer| o.bytes >= low && o.bytes < high && found(o, &search);
        of_job().into_iter().filter(fits).collect::<Vec<_>>()
    };
    let none = move || {
        let (search, all) = (search.get(), of_job());
        !all.is_empty() && !all.iter().any(|o| found(o, &search))
    };
    view! {
        <Show when=move || !of_job().is_empty()>
            <input id="model-search" type="search" placeholder="Search by name, publisher or purpose" aria-label="Search models" prop:value=move || search.get() on:input=move |event| search.set(event_target_value(&event))/>
        </Show>
        {GROUPS
            .iter()
            .map(|&(title, low, high)| {
                let group = Memo::new(move |_| in_group(low, high));
                view! {
                    <Show when=move || !group.with(Vec::is_empty)>
                        <section class="shelf">
                            <h3>{title}</h3>
                            <ul>
                                <For each=move || group.get() key=|offer| (offer.id.clone(), offer.bytes as u64, offer.fit.clone().name()) let:offer>
                                    <OfferItem offer/>
                                </For>
                            </ul>
                        </section>
                    </Show>
                }
            })
            .collect_view()}
        <Show when=none>
            <p class="hint">"No model here answers to that. Give its address below."</p>
        </Show>
    }
}

/// From any address, or from disk.
#[component]
fn Elsewhere(close: Callback<()>) -> impl IntoView {
    let store = store();
    let address: NodeRef<Input> = NodeRef::new();
    let chosen: NodeRef<Input> = NodeRef::new();
    let folder: NodeRef<Input> = NodeRef::new();
    Effect::new(move |_| {
        if let Some(input) = folder.get() {
            input.set_webkitdirectory(true);
        }
    });
    let add = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        if let Some(input) = address.get_untracked()
            && !input.value().trim().is_empty()
        {
            client::add_model(store, input.value());
            input.set_value("");
        }
    };
    let taken = move |input: NodeRef<Input>| {
        if let Some(input) = input.get_untracked() {
            close.run(());
            take(store, &files(input.files()));
            input.set_value("");
        }
    };
    view! {
        <section class="shelf">
            <h3>"From elsewhere"</h3>
            <form class="address" on:submit=add>
                <input id="model-address" type="text" autocomplete="off" node_ref=address placeholder="owner/name on the hub, or the address of a .safetensors or .gguf file" aria-label="Address of a model"/>
                <button type="submit" class="quiet">"Get it"</button>
            </form>
            <div class="row">
                <label class="button quiet">
                    "Choose files"
                    <input id="model-input" class="unseen" type="file" multiple node_ref=chosen aria-label="Choose a model's files" on:change=move |_| taken(chosen)/>
                </label>
                <label class="button quiet">
                    "Choose a folder"
                    <input id="model-folder-input" class="unseen" type="file" multiple node_ref=folder aria-label="Choose a model's folder" on:change=move |_| taken(folder)/>
                </label>
            </div>
            <p class="hint">
                "From your disk: "<code>"model.safetensors"</code>" with its "<code>"config.json"</code>" and "
                <code>"tokenizer.json"</code>" (and "<code>"preprocessor_config.json"</code>" if there is one), in transformers' "
                "or open_clip's layout, or drop them together anywhere on the page. They are read where they lie; nothing is sent."
            </p>
        </section>
    }
}

/// What is kept on this machine.
#[component]
fn Kept() -> impl IntoView {
    let store = store();
    let there = move || store.storage.get().there;
    let said = move || {
        let storage = store.storage.get();
        if !storage.there {
            return "This browser keeps no files for this page: models run without being kept."
                .to_owned();
        }
        let promise = if storage.persisted {
            "The browser keeps it until you delete it."
        } else {
            "The browser may clear it when the disk is full."
        };
        let (used, quota) = (megabytes(storage.used), megabytes(storage.quota));
        format!("{used} of {quota} in use. {promise}")
    };
    let kept = Memo::new(move |_| {
        let places = store.places.get();
        let name = |id: &String| {
            store.offers.with(|all| {
                let offer = all.iter().find(|offer| &offer.id == id);
                offer.map_or_else(|| id.clone(), |offer| offer.name.clone())
            })
        };
        let mut kept = Vec::new();
        for (id, place) in &places {
            match place {
                Place::Here { bytes } => kept.push((id.clone(), name(id), *bytes, false)),
                Place::Paused { done, .. } if *done > 0.0 => {
                    kept.push((id.clone(), name(id), *done, true));
                }
                _ => {}
            }
        }
        kept
    });
    view! {
        <section class="shelf storage" id="storage">
            <h3>"Kept on this machine"</h3>
            <p class="hint">{said}</p>
            <Show when=there>
                <meter min="0" max=move || store.storage.get().quota.to_string() value=move || store.storage.get().used.to_string() aria-label="Storage in use"></meter>
            </Show>
            <ul>
                <For each=move || kept.get() key=|(id, _, bytes, _)| (id.clone(), *bytes as u64) let:item>
                    {
                        let (id, name, bytes, part) = item;
                        let label = format!("Delete {name} from this machine");
                        let gone = id.clone();
                        view! {
                            <li data-kept=id>
                                <span>{name}</span>
                                <span class="hint">{megabytes(bytes)}{part.then_some(", a part")}</span>
                                <button type="button" class="quiet small" aria-label=label on:click=move |_| client::delete_model(gone.clone())>"Delete"</button>
                            </li>
                        }
                    }
                </For>
            </ul>
        </section>
    }
}
