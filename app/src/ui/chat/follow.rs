//! The view follows an answer as it is written, unless the reader scrolls up.

use leptos::prelude::*;

use super::store::{Chat, Id};
use crate::ui::web::{document, window};

/// Pixels by which the end of an answer may be hidden and still count as seen.
const SLACK: f64 = 4.0;

/// By how many pixels the end of a turn is hidden: by the composer, or below
/// the window.
fn hidden(turn: Id) -> f64 {
    let find = |css: &str| document().query_selector(css).ok().flatten();
    let turn = find(&format!("[data-turn=\"{turn}\"]"));
    let (Some(turn), Some(composer)) = (turn, find(".composer")) else {
        return 0.0;
    };
    let height = window().inner_height().ok();
    let height = height.and_then(|height| height.as_f64()).unwrap_or(0.0);
    let end = composer.get_bounding_client_rect().top().min(height);
    turn.get_bounding_client_rect().bottom() - end
}

/// Scrolls along. It is done at once, a line at a time: that moves little, also
/// for those who want no motion.
pub(super) fn follow(chat: Chat) {
    // The turn that is followed, and where the page was.
    let followed = StoredValue::new(None::<Id>);
    let place = StoredValue::new(0.0_f64);
    let upward = StoredValue::new(false);
    let listener = window_event_listener(leptos::ev::scroll, move |_| {
        let now = window().scroll_y().unwrap_or(0.0);
        let before = place.get_value();
        place.set_value(now);
        let Some(turn) = followed.get_value() else {
            return;
        };
        if hidden(turn) <= SLACK {
            upward.set_value(false);
        } else if now < before {
            upward.set_value(true);
        }
    });
    on_cleanup(move || listener.remove());
    Effect::new(move |_| {
        let turn = chat.writing.with(|w| w.as_ref().map(|w| w.turn));
        if turn.is_some() && turn != followed.get_value() {
            upward.set_value(false);
        }
        // Once more at the end: its figures come below it.
        let last = followed.get_value();
        followed.set_value(turn);
        let Some(turn) = turn.or(last) else { return };
        request_animation_frame(move || {
            let by = hidden(turn);
            if by > 0.0 && upward.try_get_value() == Some(false) {
                window().scroll_by_with_x_and_y(0.0, by.ceil() + SLACK);
            }
        });
    });
}
