//! A drawing for the prompt.

use leptos::html::Dialog;
use leptos::prelude::*;
use wasm_bindgen::prelude::*;
use web_sys::Blob;

use crate::ui::pad::{Drawing, Sheet};
use crate::ui::web::cross;

/// The pad, with a button that puts the drawing in.
#[component]
pub(super) fn Draw(
    close: impl Fn() + Copy + Send + Sync + 'static,
    take: Callback<Blob>,
) -> impl IntoView {
    let dialog: NodeRef<Dialog> = NodeRef::new();
    let drawing = Drawing::new();
    Effect::new(move |_| {
        if let Some(dialog) = dialog.get() {
            let _ = dialog.show_modal();
        }
    });
    let put = move |_| {
        if let Some(canvas) = drawing.canvas.get_untracked() {
            let taken = Closure::once_into_js(move |blob: Option<Blob>| {
                if let Some(blob) = blob {
                    take.run(blob);
                }
            });
            let _ = canvas.to_blob(taken.unchecked_ref());
        }
        close();
    };
    view! {
        <dialog class="draw" node_ref=dialog aria-label="Draw a picture" on:close=move |_| close()>
            <header>
                <h2>"Draw a picture"</h2>
                <button type="button" class="remove" aria-label="Close" on:click=move |_| close()>{cross()}</button>
            </header>
            <div class="pad">
                <Sheet drawing id="chat-canvas" changed=Callback::new(|()| ())>
                    <button type="button" class="small push" id="put-drawing" disabled=move || drawing.empty.get() on:click=put>"Put it in"</button>
                </Sheet>
            </div>
        </dialog>
    }
}
