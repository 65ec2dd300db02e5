//! Small things the browser offers.

use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, BlobPropertyBag, DataTransfer, File, FileList, FileSystemDirectoryEntry, FileSystemEntry,
    FileSystemFileEntry, HtmlAnchorElement,
};

pub(super) fn window() -> web_sys::Window {
    // The page runs in a window or not at all.
    web_sys::window().unwrap_throw()
}

pub(super) fn document() -> web_sys::Document {
    window().document().unwrap_throw()
}

/// The files of a list.
pub(super) fn files(list: Option<FileList>) -> Vec<File> {
    let Some(list) = list else {
        return Vec::new();
    };
    (0..list.length()).filter_map(|i| list.get(i)).collect()
}

/// The files of a drop, those in folders included.
pub(super) async fn dropped(data: &DataTransfer) -> Vec<File> {
    let items = data.items();
    // The list is emptied as soon as the event is over: take all entries now.
    let entries: Vec<FileSystemEntry> = (0..items.length())
        .filter_map(|i| items.get(i)?.webkit_get_as_entry().ok().flatten())
        .collect();
    if entries.is_empty() {
        return files(data.files());
    }
    let mut found = Vec::new();
    let mut open = entries;
    while let Some(entry) = open.pop() {
        if entry.is_directory() {
            open.extend(children(entry.unchecked_ref()).await);
        } else if let Some(file) = file(entry.unchecked_ref()).await {
            found.push(file);
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

/// Saves text as a file of the person's.
pub(super) fn save(name: &str, kind: &str, text: &str) {
    let options = BlobPropertyBag::new();
    options.set_type(kind);
    let parts = js_sys::Array::of1(&text.into());
    let Ok(blob) = Blob::new_with_str_sequence_and_options(&parts, &options) else {
        return;
    };
    let Ok(url) = web_sys::Url::create_object_url_with_blob(&blob) else {
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
