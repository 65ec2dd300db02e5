//! What `cargo xtask bench packed` runs: models of published sizes in every
//! type that `plume pack` writes, on the CPU, beside open_clip: size, cosine to
//! f32, time. Each turn of one is followed by a turn of every other, so that
//! whatever else the machine does slows all of them. Prints Markdown.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use plume_cli::model::ModelFiles;
use plume_cli::pictures;
use plume_core::bench::TEXT;
use plume_core::checkpoint::{Packed, Precision, asked, pack};
use plume_core::cpu::Candle;
use plume_core::image::{Family, Preprocess};
use plume_core::models::clip::Clip;
use plume_core::tokens::Tokens;
use plume_tests::{cosine, root};

const MODELS: &[&str] = &["RN50", "ViT-B/32", "ViT-B/16", "ViT-L/14"];
const TYPES: [(&str, Precision); 4] = [
    ("f32", Precision::F32),
    ("f16", Precision::F16),
    ("q8_0", Precision::Q8_0),
    ("q4_0", Precision::Q4_0),
];
/// Turns of each; the first is not counted.
const TURNS: usize = 8;
/// Texts whose embeddings are compared, as ids: of random weights any will do.
const TEXTS: u32 = 8;

/// open_clip, waiting for its turns.
struct Peer {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(python: &Path, model: &str) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut child = Command::new(python)
            .arg(root().join("tests/turns.py"))
            .args([model, &cores.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (asks, answers) = (child.stdin.take(), child.stdout.take());
        let mut peer = Self {
            child,
            asks: asks.context("no way to ask")?,
            answers: BufReader::new(answers.context("no way to answer")?),
        };
        if peer.line()? != "ready" {
            bail!("tests/turns.py does not start");
        }
        Ok(peer)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Milliseconds of one turn.
    fn turn(&mut self, what: &str) -> Result<f64> {
        writeln!(self.asks, "{what}")?;
        self.asks.flush()?;
        Ok(self.line()?.parse()?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A model in one type.
struct Form {
    dtype: &'static str,
    bytes: u64,
    clip: Clip<Candle>,
}

/// Packs the model of a folder in every type and loads each.
fn forms(folder: &Path) -> Result<Vec<Form>> {
    let files = ModelFiles::find(folder)?;
    let (config, source) = (files.config()?, files.checkpoint()?);
    let asked = asked(|device, nothing| Clip::load(device, &config, nothing))?;
    let packed = Packed {
        config: config.to_json(),
        ..Packed::default()
    };
    let form = |(dtype, precision)| {
        let path = folder.join("packed.gguf");
        let file = std::io::BufWriter::new(std::fs::File::create(&path)?);
        pack(file, &packed, &asked, &source, precision, |_| {})?;
        let bytes = std::fs::metadata(&path)?.len();
        let checkpoint = ModelFiles::find(&path)?.checkpoint()?;
        let clip = Clip::load(&Candle::new(), &config, &checkpoint)?;
        Ok(Form { dtype, bytes, clip })
    };
    TYPES.into_iter().map(form).collect()
}

/// Pictures: photographs where a folder of them is given, or the page's own.
fn photographs(folder: Option<&Path>) -> Result<Vec<PathBuf>> {
    let samples = root().join("www/demo/samples");
    let folder = folder.unwrap_or(&samples);
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "png" || e == "jpg"))
        .collect();
    if found.is_empty() {
        bail!("there is no .png and no .jpg in {}", folder.display());
    }
    found.sort();
    found.truncate(16);
    Ok(found)
}

/// Least cosine to the first form, of pictures and of texts.
fn cosines(forms: &[Form], pictures: &[PathBuf]) -> Result<Vec<[f32; 2]>> {
    let Some(first) = forms.first() else {
        return Ok(Vec::new());
    };
    let config = first.clip.config();
    let preprocess = Preprocess::clip(config.vision()?.image_size(), Family::OpenClip);
    let texts: Vec<Tokens> = (0..TEXTS)
        .map(|n| Tokens {
            ids: std::iter::once(49406)
                .chain((1..7).map(|i| 320 + n * 997 + i * 131))
                .chain([49407])
                .collect(),
            eot: 7,
            truncated: false,
        })
        .collect();
    let read = |tensor: plume_core::tensor::Tensor<Candle>| pollster::block_on(tensor.read());
    let mut expected = None;
    let mut all = Vec::new();
    for form in forms {
        let mut images = Vec::new();
        for path in pictures {
            let pixels = preprocess.apply(&pictures::open(path)?);
            images.extend(read(form.clip.embed_images(&pixels)?)?);
        }
        let found = [images, read(form.clip.embed_texts(&texts)?)?];
        let expected = expected.get_or_insert_with(|| found.clone());
        all.push([0, 1].map(|side| {
            let rows = expected[side].chunks(config.embed_dim);
            let pairs = rows.zip(found[side].chunks(config.embed_dim));
            pairs.map(|(a, b)| cosine(a, b)).fold(1.0, f32::min)
        }));
    }
    Ok(all)
}

/// Turns of every form and then of the peer, again and again.
fn turns(forms: &[Form], peer: &mut Peer, what: &str) -> Result<Vec<Vec<f64>>> {
    let mut all = vec![Vec::new(); forms.len() + 1];
    let text = Tokens {
        ids: (1..=TEXT as u32).collect(),
        eot: TEXT - 1,
        truncated: false,
    };
    for turn in 0..=TURNS {
        for (form, times) in forms.iter().zip(&mut all) {
            let side = form.clip.config().vision()?.image_size();
            let start = Instant::now();
            let done = if what == "picture" {
                form.clip.embed_images(&vec![0.1; side * side * 3])?
            } else {
                form.clip.embed_texts(std::slice::from_ref(&text))?
            };
            pollster::block_on(done.read())?;
            if turn > 0 {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        let time = peer.turn(what)?;
        if let (true, Some(times)) = (turn > 0, all.last_mut()) {
            times.push(time);
        }
    }
    all.iter_mut()
        .for_each(|times| times.sort_by(f64::total_cmp));
    Ok(all)
}

/// `12.3 (11.9–14.0), ×1.4`: median, spread, and how many times the peer's.
fn told(times: &[f64], peer: &[f64]) -> String {
    let median = |times: &[f64]| times[times.len() / 2];
    format!(
        "{:.1} ({:.1}–{:.1}) | {:.2}",
        median(times),
        times[0],
        times[times.len() - 1],
        median(times) / median(peer)
    )
}

fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

fn measure(name: &str, python: &Path, pictures: &[PathBuf]) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("plume-packed-{}", std::process::id()));
    let made = Command::new(python)
        .arg(root().join("tests/golden/full_size.py"))
        .args([name.as_ref(), folder.as_os_str()])
        .stdout(Stdio::null())
        .status()?;
    if !made.success() {
        bail!("full_size.py fails for {name}");
    }
    let forms = forms(&folder);
    std::fs::remove_dir_all(&folder)?;
    let forms = forms?;
    let mut peer = Peer::start(python, name)?;
    let cosines = cosines(&forms, pictures)?;
    let before = load();
    let images = turns(&forms, &mut peer, "picture")?;
    let texts = turns(&forms, &mut peer, "text")?;
    let (image, text) = (&images[forms.len()], &texts[forms.len()]);
    for (i, form) in forms.iter().enumerate() {
        let [picture, words] = cosines[i];
        print(&format!(
            "| {name} | {} | {:.0} MB | {picture:.5} | {words:.5} | {} | {} | {before} |",
            form.dtype,
            form.bytes as f64 / 1e6,
            told(&images[i], image),
            told(&texts[i], text),
        ));
    }
    print(&format!(
        "| {name} | open_clip | | | | {} | {} | {} |",
        told(image, image),
        told(text, text),
        load()
    ));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the table is the product")]
fn print(text: &str) {
    println!("{text}");
}

fn main() -> Result<()> {
    let python = std::env::var_os("PLUME_PYTHON").unwrap_or_else(|| "python3".into());
    let folder = std::env::var_os("PLUME_PICTURES").map(PathBuf::from);
    let pictures = photographs(folder.as_deref())?;
    let asked = std::env::args().nth(1);
    let names = asked.as_deref().map(|names| names.split(',').collect());
    let names: Vec<&str> = names.unwrap_or_else(|| MODELS.to_vec());
    print(&format!(
        "Random weights of `full_size.py`; least cosine to f32 of {} pictures and {TEXTS} texts; \
         milliseconds for one, median (least–most) of {TURNS}, and how many times open_clip's.\n",
        pictures.len()
    ));
    print(
        "| model | stored | file | cosine, pictures | texts | a picture | × | a text | × | load |",
    );
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for name in names {
        measure(name, Path::new(&python), &pictures)?;
    }
    Ok(())
}
