//! The chat: a Flamingo that is shown pictures and goes on with what is said.

use wasm_bindgen::JsValue;

use super::post;
use crate::protocol::Event;
use crate::protocol::chat::{News, Wish};

/// Meets a wish.
pub(super) fn meet(wish: Wish, _payload: &JsValue) {
    let message = "no model that writes is loaded: load one".to_owned();
    let news = match wish {
        Wish::Load { request, .. } => News::LoadFailed { request, message },
        Wish::See { id } | Wish::Keep { id } => News::SeeFailed { id, message },
        Wish::Plan { request, .. }
        | Wish::Write { request, .. }
        | Wish::Score { request, .. }
        | Wish::Choose { request, .. }
        | Wish::Look { request, .. } => News::Failed { request, message },
        Wish::Forget { .. } | Wish::Stop => return,
    };
    post(&Event::Chat(news));
}
