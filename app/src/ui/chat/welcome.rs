//! What an empty conversation says.

use leptos::prelude::*;

#[component]
pub(super) fn Welcome() -> impl IntoView {
    view! {
        <div class="welcome">
            <h2>"Teach by example"</h2>
            <p>
                "Take ready-made examples above, or add your own: a picture, and what you would answer. "
                "Then put a picture in below, and the model goes on in kind. Made-up names are welcome: "
                "it learns them from the examples alone, while you watch."
            </p>
        </div>
    }
}
