//! Which model was used last, for the next visit: its name in the library where
//! it is kept on this machine; of one from disk, which a page cannot open again
//! by itself, what it was called, so that one hears why another answers.

use gloo_storage::{LocalStorage, Storage as _};
use leptos::prelude::*;

use crate::protocol::Which;
use crate::ui::store::Store;

/// Where it is noted.
#[derive(Clone, Copy)]
pub(in crate::ui) struct Remembered {
    kept: &'static str,
    own: &'static str,
}

/// For what classifies.
pub(super) const CLASSIFIES: Remembered = Remembered {
    kept: "plume-model",
    own: "plume-model-from-disk",
};
/// For what writes.
pub(in crate::ui) const WRITES: Remembered = Remembered {
    kept: "plume-chat-model",
    own: "plume-chat-model-from-disk",
};

impl Remembered {
    /// Notes the model that works now.
    pub(in crate::ui) fn note(self, which: &Which, name: &str) {
        LocalStorage::delete(self.kept);
        LocalStorage::delete(self.own);
        // Where nothing can be noted the next visit begins with the demo.
        let _ = match which {
            Which::Kept(id) => LocalStorage::set(self.kept, id),
            Which::Own => LocalStorage::set(self.own, name),
            Which::Demo | Which::Streamed(_) => Ok(()),
        };
    }

    /// The model that the visit begins with; where it is not the one of the last
    /// visit, that is told.
    pub(in crate::ui) fn first(self, store: Store) -> Which {
        if let Ok(name) = LocalStorage::get::<String>(self.own) {
            LocalStorage::delete(self.own);
            store.error.set(Some(format!(
                "{name} was opened from your disk and no copy of it is kept here: the model that \
                 comes with this page answers now. Open it again under “Model”, where “Keep a copy \
                 on this device” keeps it for the next visit."
            )));
        }
        LocalStorage::get(self.kept).map_or(Which::Demo, Which::Kept)
    }
}
