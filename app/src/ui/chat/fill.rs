//! Examples from elsewhere: ready-made, from a folder, from a table.

use gloo_net::http::Request;
use leptos::prelude::*;
use leptos::task::spawn_local;
use serde::Deserialize;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, File};

use super::media;
use super::store::{Shot, fresh};
use crate::protocol::chat::{Piece, Task};
use crate::ui::store::{Store, store};

/// A set that is served with the page.
#[derive(Clone, Deserialize)]
struct Made {
    name: String,
    task: Task,
    shots: Vec<MadeShot>,
    /// A picture to try it on, and a question.
    #[serde(rename = "try")]
    ask: Option<MadeShot>,
}

#[derive(Clone, Deserialize)]
struct MadeShot {
    /// Its address, from the page's demo folder.
    picture: String,
    #[serde(default)]
    question: String,
    #[serde(default)]
    answer: String,
}

async fn fetched(address: &str) -> Option<Vec<u8>> {
    let response = Request::get(&format!("./demo/{address}"))
        .send()
        .await
        .ok()?;
    response.ok().then_some(())?;
    response.binary().await.ok()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

async fn parts(store: Store, made: &MadeShot) -> Option<Vec<Piece>> {
    let bytes = fetched(&made.picture).await?;
    let bits = js_sys::Array::of1(&js_sys::Uint8Array::from(bytes.as_slice()));
    let blob = Blob::new_with_u8_array_sequence(&bits).ok()?;
    let id = media::add(store.chat, file_name(&made.picture), &[blob]);
    Some(with_question(id, &made.question))
}

fn with_question(id: u32, question: &str) -> Vec<Piece> {
    let mut parts = vec![Piece::Media(id)];
    if !question.trim().is_empty() {
        parts.push(Piece::Text(question.trim().to_owned()));
    }
    parts
}

/// Puts examples on the page in the place of those that are there.
pub(super) fn put_set(store: Store, task: Task, shots: Vec<Shot>) {
    let fresh_ones = shots.into_iter().map(|shot| Shot {
        id: fresh(),
        ..shot
    });
    let count = fresh_ones.len();
    store.chat.task.set(task);
    store.chat.shots.set(fresh_ones.collect());
    store
        .announcement
        .set(format!("{count} examples are loaded"));
}

async fn load(store: Store, made: Made) {
    let mut shots = Vec::new();
    for shot in &made.shots {
        match parts(store, shot).await {
            Some(parts) => shots.push(Shot::new(parts, &shot.answer)),
            None => {
                let name = &shot.picture;
                store.error.set(Some(format!(
                    "{name} cannot be fetched: is the network there?"
                )));
                return;
            }
        }
    }
    put_set(store, made.task, shots);
    let empty = store.chat.draft.with_untracked(Vec::is_empty);
    if let Some(ask) = made.ask.filter(|_| empty)
        && let Some(parts) = parts(store, &ask).await
    {
        store.chat.draft.set(parts);
    }
}

/// Buttons that load what is served with the page.
#[component]
pub(super) fn ReadyMade() -> impl IntoView {
    let store = store();
    let sets = RwSignal::new(Vec::<Made>::new());
    spawn_local(async move {
        if let Some(json) = fetched("shots/index.json").await
            && let Ok(found) = serde_json::from_slice(&json)
        {
            sets.set(found);
        }
    });
    view! {
        <For each=move || sets.get() key=|made| made.name.clone() let(made)>
            <button type="button" class="quiet small" data-set=made.name.clone() on:click={
                let made = made.clone();
                move |_| {
                    let made = made.clone();
                    spawn_local(load(store, made));
                }
            }>{made.name.clone()}</button>
        </For>
    }
}

/// A file with its path, where it came with its folder.
pub(super) fn with_path(file: File) -> (String, File) {
    let path = js_sys::Reflect::get(&file, &"webkitRelativePath".into());
    let path = path.ok().and_then(|path| path.as_string());
    let path = path.filter(|path| !path.is_empty());
    (path.unwrap_or_else(|| file.name()), file)
}

/// A name as an answer: without its ending, its numbers and its dashes.
fn spoken(name: &str) -> String {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let words = stem.replace(['-', '_'], " ");
    let words =
        words.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ' || c == '(' || c == ')');
    let words = words.trim();
    if words.is_empty() { stem } else { words }.to_owned()
}

/// The answers that the places of files give: of those in several folders the
/// folder's name, else their own.
fn answers(paths: &[String]) -> Vec<String> {
    let folder = |path: &str| {
        let (folders, _) = path.rsplit_once('/')?;
        Some(file_name(folders).to_owned())
    };
    let folders: Vec<_> = paths.iter().map(|path| folder(path)).collect();
    let several = folders.iter().any(|folder| *folder != folders[0]);
    paths
        .iter()
        .zip(folders)
        .map(|(path, folder)| match folder.filter(|_| several) {
            Some(folder) => spoken(&format!("{folder}.")),
            None => spoken(file_name(path)),
        })
        .collect()
}

/// A row of a table: picture, question, answer.
type Row = (String, String, String);

/// Reads a table; a head that names its columns is understood.
fn rows(text: &str) -> Result<Vec<Row>, csv::Error> {
    let first = text.lines().next().unwrap_or_default();
    let delimiter = [b',', b';', b'\t']
        .into_iter()
        .max_by_key(|&d| first.bytes().filter(|&b| b == d).count())
        .unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let mut columns: Option<[Option<usize>; 3]> = None;
    let mut out = Vec::new();
    for record in reader.records() {
        let record = record?;
        let Some([picture, question, answer]) = columns else {
            let named = |names: &[&str]| {
                record
                    .iter()
                    .position(|field| names.contains(&field.to_lowercase().as_str()))
            };
            let head = [
                named(&["picture", "image", "file", "filename", "path"]),
                named(&["question", "prompt"]),
                named(&["answer", "caption", "label", "class", "text"]),
            ];
            if head[0].is_some() {
                columns = Some(head);
                continue;
            }
            columns = Some(match record.len() {
                0..=2 => [Some(0), None, Some(1)],
                _ => [Some(0), Some(1), Some(2)],
            });
            out.push(row(&record, columns.unwrap_or_default()));
            continue;
        };
        out.push(row(&record, [picture, question, answer]));
    }
    Ok(out)
}

fn row(record: &csv::StringRecord, columns: [Option<usize>; 3]) -> Row {
    let [picture, question, answer] = columns.map(|at| {
        at.and_then(|at| record.get(at))
            .unwrap_or_default()
            .to_owned()
    });
    (picture, question, answer)
}

/// Adds an example for each picture; a table among the files says what is
/// asked and answered.
pub(super) async fn from_files(store: Store, files: Vec<(String, File)>) {
    let table = |name: &str| {
        let name = name.to_lowercase();
        name.ends_with(".csv") || name.ends_with(".tsv")
    };
    let (tables, mut pictures): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|(path, _)| table(path));
    let found = match tables.first() {
        Some((_, file)) => {
            let text = JsFuture::from(file.text()).await.ok();
            let text = text.and_then(|text| text.as_string()).unwrap_or_default();
            from_table(store, &text, &pictures).await
        }
        None => {
            pictures.retain(|(path, _)| !file_name(path).starts_with('.'));
            pictures.sort_by(|a, b| a.0.cmp(&b.0));
            let paths: Vec<_> = pictures.iter().map(|(path, _)| path.clone()).collect();
            let mut shots = Vec::new();
            for ((_, file), answer) in pictures.iter().zip(answers(&paths)) {
                if let Some(id) = media::take_one(store, file).await {
                    shots.push(Shot::new(vec![Piece::Media(id)], &answer));
                }
            }
            shots
        }
    };
    let count = found.len();
    store.chat.shots.update(|shots| shots.extend(found));
    store.announcement.set(format!("{count} examples added"));
}

async fn from_table(store: Store, text: &str, pictures: &[(String, File)]) -> Vec<Shot> {
    let rows = match rows(text) {
        Ok(rows) => rows,
        Err(error) => {
            store
                .error
                .set(Some(format!("The table cannot be read: {error}")));
            return Vec::new();
        }
    };
    let (mut shots, mut missing) = (Vec::new(), Vec::new());
    for (picture, question, answer) in rows {
        let file = pictures
            .iter()
            .find(|(path, file)| file.name() == file_name(&picture) || path.ends_with(&picture));
        let Some((_, file)) = file.filter(|_| !picture.is_empty()) else {
            missing.push(picture);
            continue;
        };
        if let Some(id) = media::take_one(store, file).await {
            shots.push(Shot::new(with_question(id, &question), &answer));
        }
    }
    if !missing.is_empty() {
        store.error.set(Some(format!(
            "These pictures of the table are not among the files: {}. Choose the table and its \
             pictures together.",
            missing.join(", ")
        )));
    }
    shots
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::{answers, rows};

    #[wasm_bindgen_test]
    fn places_give_answers() {
        let paths = |all: &[&str]| all.iter().map(|&p| p.to_owned()).collect::<Vec<_>>();
        let of = answers(&paths(&["set/orange-cat.png", "set/red_house 2.jpg"]));
        assert_eq!(of, ["orange cat", "red house"]);
        let of = answers(&paths(&["set/dax/1.png", "set/blick/1.png"]));
        assert_eq!(of, ["dax", "blick"]);
        assert_eq!(answers(&paths(&["7.png"])), ["7"]);
    }

    #[wasm_bindgen_test]
    fn tables_are_read_with_a_head_and_without() {
        let row = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        let found = rows("answer,image,question\n\"two, or so\",a.png,how many?\n");
        assert_eq!(
            found.expect("a table"),
            [row("a.png", "how many?", "two, or so")]
        );
        let found = rows("a.png;a cat\nb.png;a dog\n");
        assert_eq!(
            found.expect("a table"),
            [row("a.png", "", "a cat"), row("b.png", "", "a dog")]
        );
    }
}
