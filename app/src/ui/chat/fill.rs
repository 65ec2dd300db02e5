//! Examples from files: pictures, a folder, a table.

use leptos::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::File;

use super::intake::{Named, Sorted, sorted};
use super::media::{self, Left};
use super::store::Shot;
use crate::protocol::chat::Piece;
use crate::ui::store::Store;

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A picture and what is asked about it.
pub(super) fn with_question(id: u32, question: &str) -> Vec<Piece> {
    let mut parts = vec![Piece::Media(id)];
    if !question.trim().is_empty() {
        parts.push(Piece::Text(question.trim().to_owned()));
    }
    parts
}

/// Adds an example for each picture; what is to be answered is left to write.
pub(super) async fn from_pictures(store: Store, files: Vec<File>) {
    let taken = media::take(store, &files).await;
    let shots: Vec<_> = taken
        .into_iter()
        .map(|id| Shot::new(vec![Piece::Media(id)], ""))
        .collect();
    added(store, shots);
}

/// Puts examples behind those that are there.
fn added(store: Store, shots: Vec<Shot>) {
    let said = match shots.len() {
        0 => return,
        1 => "1 example added".to_owned(),
        n => format!("{n} examples added"),
    };
    store.chat.shots.update(|all| all.extend(shots));
    store.announcement.set(said);
}

/// A file with its path, where it came with its folder.
pub(super) fn with_path(file: File) -> Named {
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
pub(super) async fn from_files(store: Store, files: Vec<Named>) {
    let sorted = sorted(store, files).await;
    from_sorted(store, sorted).await;
}

/// The same for files of which models and the like are gone.
pub(super) async fn from_sorted(store: Store, sorted: Sorted) {
    let Sorted {
        tables,
        mut pictures,
        mut left,
    } = sorted;
    let mut told = None;
    let mut shots = Vec::new();
    if let Some((_, file)) = tables.first() {
        let text = JsFuture::from(file.text()).await.ok();
        let text = text.and_then(|text| text.as_string()).unwrap_or_default();
        match from_table(store, &text, &pictures, &mut left).await {
            Ok((found, missing)) => (shots, told) = (found, missing),
            Err(error) => told = Some(format!("The table cannot be read: {error}")),
        }
    } else {
        pictures.sort_by(|a, b| a.0.cmp(&b.0));
        let paths: Vec<_> = pictures.iter().map(|(path, _)| path.clone()).collect();
        for ((_, file), answer) in pictures.iter().zip(answers(&paths)) {
            match media::take_one(store, file).await {
                Ok(id) => shots.push(Shot::new(vec![Piece::Media(id)], &answer)),
                Err(one) => left.push(one),
            }
        }
    }
    let told = [told, media::left_out(shots.len(), &left)];
    let told: Vec<_> = told.into_iter().flatten().collect();
    if !told.is_empty() {
        store.error.set(Some(told.join(" ")));
    }
    added(store, shots);
}

/// The examples of a table, and which of its pictures are missing, in words.
async fn from_table(
    store: Store,
    text: &str,
    pictures: &[Named],
    left: &mut Vec<Left>,
) -> Result<(Vec<Shot>, Option<String>), csv::Error> {
    let (mut shots, mut missing) = (Vec::new(), Vec::new());
    for (picture, question, answer) in rows(text)? {
        let file = pictures
            .iter()
            .find(|(path, file)| file.name() == file_name(&picture) || path.ends_with(&picture));
        let Some((_, file)) = file.filter(|_| !picture.is_empty()) else {
            missing.push(picture);
            continue;
        };
        match media::take_one(store, file).await {
            Ok(id) => shots.push(Shot::new(with_question(id, &question), &answer)),
            Err(one) => left.push(one),
        }
    }
    let missing = (!missing.is_empty()).then(|| {
        format!(
            "These pictures of the table are not among the files: {}. Choose or drop the table and \
             its pictures together.",
            missing.join(", ")
        )
    });
    Ok((shots, missing))
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
