use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use plume_core::checkpoint::{
    Asked, Assembly, Checkpoint, Packed, Precision, Source, asked, lm_config, lm_layout, pack,
};
use plume_core::config::VisionConfig;
use plume_core::models::clip::Clip;
use plume_core::tasks::writer::{WriterConfig, WriterModel};
use plume_core::tokens::TextTokenizer;

use super::print;
use crate::model::{ModelFiles, open_weights};
use crate::writer::WriterFiles;

/// OpenFlamingo's tokens, in the order in which `factory.py` adds them.
const END_OF_CHUNK: &str = "<|endofchunk|>";
const IMAGE: &str = "<image>";

/// Make one GGUF file of a model: weights, configuration, tokenizer and
/// preparation of pictures.
///
/// One tensor is in memory at a time. The file is used like any other model:
/// `plume classify --model model.gguf` or, for what writes, `plume generate`; or
/// dropped on the page.
#[derive(clap::Args)]
#[command(after_long_help = "\
What is stored in --dtype are the matrices. Norms, biases and positions stay in f32; the first map
of the pixels, the last ones into the shared space and matrices whose rows are no multiple of 32
stay in f16 where others are quantised, and so, with q8_0, do the convolutions of a ResNet. With
q4_0 those, the table of tokens and the pooling of pictures are stored in q8_0. The rows of tokens
that were added to a language model's vocabulary are stored in f32 by themselves. Compared with
f32, q8_0 is about a quarter of the size and q4_0 a sixth; of a ResNet a third and a quarter.")]
pub struct Pack {
    /// Directory of a model, or its weights: safetensors (whole, or the index
    /// of several), PyTorch's .bin and .pt, GGUF.
    #[arg(long, value_name = "DIR_OR_FILE")]
    from: PathBuf,
    /// For a Flamingo that was published without it: the CLIP that it sees with.
    #[arg(long, value_name = "DIR_OR_FILE")]
    vision: Option<PathBuf>,
    /// For an OpenFlamingo, whose checkpoint --from is: the language model that
    /// it writes with.
    #[arg(long, value_name = "DIR_OR_FILE", requires = "vision")]
    lm: Option<PathBuf>,
    /// The file to write.
    #[arg(long, value_name = "FILE.gguf")]
    to: PathBuf,
    /// What matrices are stored as.
    #[arg(long, value_enum, default_value = "f16")]
    dtype: Dtype,
    /// The tokenizer.json, where it does not lie beside the weights.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// A name for people. Without it: that of the directory.
    #[arg(long)]
    name: Option<String>,
    /// The licence of the weights, as an SPDX expression.
    #[arg(long)]
    license: Option<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Dtype {
    F32,
    F16,
    #[value(name = "q8_0")]
    Q8,
    #[value(name = "q4_0")]
    Q4,
}

impl Dtype {
    fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::F16 => Precision::F16,
            Self::Q8 => Precision::Q8_0,
            Self::Q4 => Precision::Q4_0,
        }
    }
}

impl Pack {
    pub(super) fn run(self) -> Result<()> {
        let Parcel {
            mut packed,
            asked,
            source,
        } = self.parcel()?;
        packed.name = self.name.or(packed.name);
        packed.license = self.license.or(packed.license);

        let bar = ProgressBar::new(asked.len() as u64);
        bar.set_style(ProgressStyle::with_template(
            "{pos}/{len} tensors {wide_bar} {eta}",
        )?);
        // A file that is there under its name is whole.
        let part = part_of(&self.to);
        let out =
            File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
        let precision = self.dtype.precision();
        let progress = |done| bar.set_position(done as u64);
        let written = pack(
            BufWriter::new(out),
            &packed,
            &asked,
            source.as_ref(),
            precision,
            progress,
        );
        let done = written.map_err(anyhow::Error::from).and_then(|mut out| {
            out.flush()?;
            std::fs::rename(&part, &self.to)?;
            Ok(())
        });
        bar.finish_and_clear();
        if let Err(error) = done {
            // What went wrong matters more than what is left of it.
            let _ = std::fs::remove_file(&part);
            return Err(error.context(format!("cannot write {}", self.to.display())));
        }
        let bytes = std::fs::metadata(&self.to)?.len();
        print(&format!(
            "{}: {} tensors, {:.1} MB",
            self.to.display(),
            asked.len(),
            bytes as f64 / 1e6
        ))
    }
}

/// What is packed.
struct Parcel {
    packed: Packed,
    asked: Vec<Asked>,
    source: Box<dyn Source>,
}

/// Tensors that a source lacks are told before anything is written.
fn whole(missing: &[String]) -> Result<()> {
    match missing.first() {
        None => Ok(()),
        Some(first) => bail!(
            "{} of the model's tensors are missing, `{first}` first: is this file whole, and \
             does its configuration belong to it?",
            missing.len()
        ),
    }
}

fn names(asked: &[Asked]) -> impl Iterator<Item = &str> {
    asked.iter().map(|asked| asked.name.as_str())
}

impl Pack {
    fn parcel(&self) -> Result<Parcel> {
        if let (Some(vision), Some(lm)) = (&self.vision, &self.lm) {
            return self.assembled(vision, lm);
        }
        let files = self.with_tokenizer(ModelFiles::find(&self.from)?);
        let (mut packed, asked, checkpoint) = if files.writes()? {
            let WriterFiles { config, checkpoint } = WriterFiles::of(&files)?;
            let asked = config.asked()?;
            if let (Some(vision), WriterModel::Flamingo(sizes, _)) = (&self.vision, &config.model) {
                let source = Assembly::with_tower(tower(vision)?, checkpoint, sizes)?;
                whole(&source.missing(names(&asked)))?;
                let mut packed = config.to_packed();
                packed.name = files.name();
                let source = Box::new(source);
                return Ok(Parcel {
                    packed,
                    asked,
                    source,
                });
            }
            sees(&checkpoint, &asked)?;
            whole(&checkpoint.compare(names(&asked)).0)?;
            (config.to_packed(), asked, checkpoint)
        } else {
            clip(&files)?
        };
        if self.vision.is_some() {
            bail!("--vision is for a Flamingo that was published without its image tower");
        }
        let before = checkpoint.packed().cloned().unwrap_or_default();
        packed.name = before.name.or_else(|| files.name());
        packed.license = before.license;
        Ok(Parcel {
            packed,
            asked,
            source: Box::new(checkpoint),
        })
    }

    /// An OpenFlamingo from the files of three publishers.
    fn assembled(&self, vision: &Path, lm: &Path) -> Result<Parcel> {
        let preprocess = ModelFiles::find(vision)?.preprocess()?;
        let lm = self.with_tokenizer(ModelFiles::find(lm)?);
        let json = lm.companions()?.config;
        let json = json.context("the language model has no config.json beside it")?;
        let sizes = lm_config(&json)?;
        let language = lm.weights()?.under(lm_layout(&json, &sizes)?);
        let own = [END_OF_CHUNK, IMAGE];
        let tokenizer = TextTokenizer::with_special(lm.tokenizer_json()?.as_bytes(), &own)?;
        let vocabulary = TextTokenizer::from_json(tokenizer.as_bytes())?;
        let token = |name: &str| vocabulary.id(name).context("a token was not added");
        let (source, config) = Assembly::open_flamingo(
            tower(vision)?,
            (language, sizes),
            open_weights(&self.from)?,
            [token(IMAGE)?, token(END_OF_CHUNK)?],
        )?;
        let config = WriterConfig::open_flamingo(config, preprocess, tokenizer);
        let asked = config.asked()?;
        whole(&source.missing(names(&asked)))?;
        let mut packed = config.to_packed();
        let name = self.from.file_stem();
        packed.name = name.map(|name| name.to_string_lossy().into_owned());
        Ok(Parcel {
            packed,
            asked,
            source: Box::new(source),
        })
    }

    fn with_tokenizer(&self, files: ModelFiles) -> ModelFiles {
        match &self.tokenizer {
            Some(tokenizer) => files.with_tokenizer(tokenizer.clone()),
            None => files,
        }
    }
}

/// A CLIP's image tower.
fn tower(from: &Path) -> Result<(Checkpoint, VisionConfig)> {
    let files = ModelFiles::find(from)?;
    let tower = files.config()?.vision;
    let tower = tower.context("--vision holds no image tower")?;
    Ok((files.checkpoint()?, tower))
}

/// Says how to pack a Flamingo whose file lacks the whole image tower.
fn sees(checkpoint: &Checkpoint, asked: &[Asked]) -> Result<()> {
    let mut tower = names(asked)
        .filter(|name| name.starts_with("vision."))
        .peekable();
    if tower.peek().is_some() && !tower.any(|name| checkpoint.has(name)) {
        bail!("the file has no image tower: name the CLIP that the model sees with by --vision");
    }
    Ok(())
}

/// What a CLIP is packed with, the tensors it asks for, and where they are.
fn clip(files: &ModelFiles) -> Result<(Packed, Vec<Asked>, Checkpoint)> {
    let checkpoint = files.checkpoint()?;
    let config = checkpoint.present(&files.config()?);
    let asked = asked(|device, source| Clip::load(device, &config, source))?;
    whole(&checkpoint.compare(names(&asked)).0)?;
    // Held against the model here, so that whoever loads the file need not fear.
    let text = config.text.as_ref();
    text.map(|text| files.tokenizer(text.context)).transpose()?;
    let packed = Packed {
        config: config.to_json(),
        preprocess: match config.vision {
            Some(_) => Some(files.preprocess()?.to_json()),
            None => None,
        },
        tokenizer: text.map(|_| files.tokenizer_json()).transpose()?,
        ..Packed::default()
    };
    Ok((packed, asked, checkpoint))
}

/// Where a file lies until it is whole.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}
