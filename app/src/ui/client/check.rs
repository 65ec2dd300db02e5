//! Whether this device computes rightly.

use leptos::prelude::*;
use wasm_bindgen::JsValue;

use super::models::choose;
use super::{CLIENT, send};
use crate::protocol::{Checked, Command, Device};
use crate::ui::store::{Check, Model, Store};

/// Compares every operation of the device of now with its reference, and the
/// model with what is known of it.
pub(in crate::ui) fn check(store: Store) {
    let published = match store.model.get_untracked() {
        Model::Ready(loaded) => loaded.published,
        _ => None,
    };
    store.check.set(Check::Running);
    let pictures = store.pictures.get_untracked();
    let picture = pictures
        .iter()
        .find(|p| Some(&p.name) == published.as_ref());
    let blob = picture
        .and_then(|picture| CLIENT.with_borrow(|client| client.blobs.get(&picture.id).cloned()));
    send(&Command::Check, &blob.map_or(JsValue::NULL, Into::into));
}

/// What is not as it should be, in words.
fn wrong(checked: &Checked) -> Option<String> {
    let Checked { cases, failed, .. } = checked;
    if let Some(first) = failed.first() {
        let wrong = failed.len();
        return Some(format!(
            "This device computes {wrong} of {cases} operations wrongly ({first})."
        ));
    }
    let mut wrong = checked.findings.iter().filter(|finding| !finding.passed());
    let first = wrong.next()?;
    Some(format!(
        "{} of {} known numbers are others here ({}: {:.4}, not {:.4}). Either this device computes wrongly or these are other weights.",
        wrong.count() + 1,
        checked.findings.len(),
        first.what,
        first.found,
        first.expected
    ))
}

/// A graphics processor that computes wrongly is left before it misleads.
pub(super) fn checked(store: Store, checked: Checked) {
    let loaded = match store.model.get_untracked() {
        Model::Ready(loaded) => Some(loaded),
        _ => None,
    };
    let gpu = loaded.as_ref().is_some_and(|loaded| loaded.gpu);
    let of = loaded.map_or_else(String::new, |l| format!("{}, {}", l.name, l.device));
    let wrong = wrong(&checked).map(|what| {
        let way_on = if gpu {
            "The CPU computes from now on: check again there."
        } else {
            "Do not trust its numbers: try another browser, and please report this."
        };
        format!("{what} {way_on}")
    });
    let right = format!(
        "{} operations computed here give what their references give.",
        checked.cases
    );
    store.check.set(Check::Done {
        right: wrong.is_none(),
        said: wrong.clone().unwrap_or(right),
        of,
        checked,
    });
    if let Some(message) = wrong {
        store.error.set(Some(message));
        if gpu {
            choose(store, Device::Cpu);
        }
    }
}
