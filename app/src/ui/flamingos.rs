//! Flamingos that are published in parts: how large each would be, whether it
//! would fit, and the commands that make one file of it.

use leptos::prelude::*;

use super::offer::megabytes;
use super::store::store;
use super::web::take_along;
use crate::protocol::{PackedAs, ToPack};

/// All of them.
#[component]
pub(super) fn Flamingos() -> impl IntoView {
    let store = store();
    let any = move || store.to_pack.with(|all| !all.is_empty());
    view! {
        <Show when=any>
            <section class="shelf" id="to-pack">
                <h3>"Flamingos to pack"</h3>
                <p class="hint">
                    "They are published in parts that a page cannot read. Two programs make one file of each: "
                    <code>"hf"</code>", which comes with Python's huggingface_hub, and "<code>"plume"</code>", this page's own command line."
                </p>
                <ul>
                    <For each=move || store.to_pack.get() key=|model| (model.id.clone(), model.commands.clone(), fits(model)) let:model>
                        <Flamingo model/>
                    </For>
                </ul>
                <p class="hint">"Then drop the file anywhere on the page, or choose it below."</p>
            </section>
        </Show>
    }
}

/// What a list has to be drawn anew for.
fn fits(model: &ToPack) -> Vec<&'static str> {
    model.sizes.iter().map(|size| size.fit.name()).collect()
}

/// One of them.
#[component]
fn Flamingo(model: ToPack) -> impl IntoView {
    let store = store();
    let ToPack {
        id,
        name,
        publisher,
        licence,
        good_at,
        page,
        sizes,
        best,
        commands,
    } = model;
    let copied = RwSignal::new(false);
    let text = commands.clone();
    let named = format!("Copy the commands for {name}");
    // Behind a dialog nothing is announced: the button itself says it.
    let label = move || {
        if copied.get() {
            "Copied".to_owned()
        } else {
            named.clone()
        }
    };
    view! {
        <li class="to-pack" data-id=id>
            <div class="offer-head">
                <h4><a href=page target="_blank" rel="noreferrer">{name}</a></h4>
                <span class="hint">{format!("{publisher} · {licence}")}</span>
            </div>
            <p class="offer-good">{good_at}</p>
            <ul class="packed">{sizes.into_iter().map(size).collect_view()}</ul>
            <details>
                <summary>"How to make it as "<code>{best}</code></summary>
                <pre tabindex="0">{commands}</pre>
                <button type="button" class="quiet small" aria-label=label on:click=move |_| take_along(store, &text, copied)>
                    {move || if copied.get() { "Copied" } else { "Copy" }}
                </button>
            </details>
        </li>
    }
}

/// What it is as one type.
fn size(size: PackedAs) -> impl IntoView {
    let PackedAs { dtype, bytes, fit } = size;
    let (name, words) = (
        dtype.clone(),
        format!(" · {} · {}", megabytes(bytes), fit.words()),
    );
    view! {
        <li class="fit" data-fit=fit.name() data-dtype=name>
            <span><code>{dtype}</code>{words}</span>
        </li>
    }
}
