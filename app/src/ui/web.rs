//! Small things the browser offers.

use leptos::prelude::*;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, BlobPropertyBag, DataTransfer, File, FileList, FileSystemDirectoryEntry, FileSystemEntry,
    FileSystemFileEntry, HtmlAnchorElement,
};

use super::store::Store;

pub(super) fn window() -> web_sys::Window {
    // The page runs in a window or not at all.
    web_sys::window().unwrap_throw()
}

pub(super) fn document() -> web_sys::Document {
    window().document().unwrap_throw()
}

/// What the address says after `?name=`.
pub(super) fn query(name: &str) -> Option<String> {
    let search = window().location().search().ok()?;
    let parameters = web_sys::UrlSearchParams::new_with_str(&search).ok()?;
    parameters.get(name)
}

/// A line drawing of 24 × 24, in the colour of the text around it.
pub(super) fn icon(path: &'static str) -> impl IntoView {
    view! {
        <svg class="icon" viewBox="0 0 24 24" width="18" height="18" aria-hidden="true"><path d=path/></svg>
    }
}

/// The sign on buttons that take away or close.
pub(super) fn cross() -> impl IntoView {
    icon("M6 6l12 12M18 6L6 18")
}

/// Whether a media query holds now.
pub(super) fn media(query: &str) -> bool {
    let list = window().match_media(query).ok().flatten();
    list.is_some_and(|list| list.matches())
}

/// Puts text on the clipboard and tells whether that worked.
pub(super) fn copy(text: &str, done: impl FnOnce(bool) + 'static) {
    let promise = window().navigator().clipboard().write_text(text);
    leptos::task::spawn_local(async move { done(JsFuture::from(promise).await.is_ok()) });
}

/// Puts text on the clipboard, and says for two seconds that it is there.
pub(super) fn take_along(store: Store, text: &str, copied: RwSignal<bool>) {
    copy(text, move |done| {
        copied.set(done);
        store.announcement.set(
            if done {
                "Copied"
            } else {
                "The browser does not let it be copied"
            }
            .to_owned(),
        );
        set_timeout(
            move || {
                let _ = copied.try_set(false);
            },
            std::time::Duration::from_secs(2),
        );
    });
}

/// The files of a list.
pub(super) fn files(list: Option<FileList>) -> Vec<File> {
    let Some(list) = list else {
        return Vec::new();
    };
    (0..list.length()).filter_map(|i| list.get(i)).collect()
}

/// The files of a drop, those in folders included, each with its path below what
/// was dropped.
pub(super) async fn dropped_paths(data: &DataTransfer) -> Vec<(String, File)> {
    let items = data.items();
    // The list is emptied as soon as the event is over: take all entries now.
    let entries: Vec<FileSystemEntry> = (0..items.length())
        .filter_map(|i| items.get(i)?.webkit_get_as_entry().ok().flatten())
        .collect();
    if entries.is_empty() {
        let named = files(data.files()).into_iter();
        return named.map(|file| (file.name(), file)).collect();
    }
    let mut found = Vec::new();
    let mut open = entries;
    while let Some(entry) = open.pop() {
        if entry.is_directory() {
            open.extend(children(entry.unchecked_ref()).await);
        } else if let Some(file) = file(entry.unchecked_ref()).await {
            let path = entry.full_path();
            found.push((path.trim_start_matches('/').to_owned(), file));
        }
    }
    found.reverse();
    found
}

async fn file(entry: &FileSystemFileEntry) -> Option<File> {
    let entry = entry.clone();
    let promise = js_sys::Promise::new(&mut |resolve, reject| {
        entry.file_with_callback_and_callback(&resolve, &reject);
    });
    Some(JsFuture::from(promise).await.ok()?.unchecked_into())
}

/// Everything in a folder; the browser hands it out a hundred at a time.
async fn children(folder: &FileSystemDirectoryEntry) -> Vec<FileSystemEntry> {
    let reader = folder.create_reader();
    let mut all = Vec::new();
    loop {
        let reader = reader.clone();
        let promise = js_sys::Promise::new(&mut |resolve, reject| {
            let _ = reader.read_entries_with_callback_and_callback(&resolve, &reject);
        });
        let Ok(some) = JsFuture::from(promise).await else {
            return all;
        };
        let some = js_sys::Array::from(&some);
        if some.length() == 0 {
            return all;
        }
        all.extend(some.iter().map(JsCast::unchecked_into::<FileSystemEntry>));
    }
}

/// Parts, texts or blobs, as one blob of this kind.
pub(super) fn blob(parts: &js_sys::Array, kind: &str) -> Result<Blob, JsValue> {
    let options = BlobPropertyBag::new();
    options.set_type(kind);
    Blob::new_with_blob_sequence_and_options(parts, &options)
}

/// Saves text as a file of the person's.
pub(super) fn save_text(name: &str, kind: &str, text: &str) {
    if let Ok(blob) = blob(&js_sys::Array::of1(&text.into()), kind) {
        save(name, &blob);
    }
}

/// Saves a file of the person's.
pub(super) fn save(name: &str, blob: &Blob) {
    let Ok(url) = web_sys::Url::create_object_url_with_blob(blob) else {
        return;
    };
    if let Ok(element) = document().create_element("a") {
        let anchor: HtmlAnchorElement = element.unchecked_into();
        anchor.set_href(&url);
        anchor.set_download(name);
        anchor.click();
    }
    let _ = web_sys::Url::revoke_object_url(&url);
}
