use std::path::PathBuf;

use anyhow::{Context, Result};
use safetensors::tensor::{Dtype, TensorView};

use crate::model::ModelFiles;
use crate::pictures;

/// Write what an image tower is given for a picture: resized, cropped and
/// normalised as the model's configuration says.
#[derive(clap::Args)]
#[command(after_long_help = "\
The file holds one tensor, `pixels`, F32 [1, size, size, 3]: rows, columns, red-green-blue.")]
pub struct Preprocess {
    /// Model directory, or the weights file inside one.
    #[arg(long, value_name = "DIR_OR_FILE")]
    model: PathBuf,
    /// The safetensors file to write.
    #[arg(long, value_name = "X.safetensors")]
    out: PathBuf,
    /// The picture.
    image: PathBuf,
}

impl Preprocess {
    pub(super) fn run(self) -> Result<()> {
        let preprocess = ModelFiles::find(&self.model)?.preprocess()?;
        let pixels = preprocess.apply(&pictures::open(&self.image)?);
        let bytes: Vec<u8> = pixels.iter().flat_map(|x| x.to_le_bytes()).collect();
        let side = preprocess.size();
        let view = TensorView::new(Dtype::F32, vec![1, side, side, 3], &bytes)?;
        safetensors::serialize_to_file([("pixels", view)], None, &self.out)
            .with_context(|| format!("cannot write {}", self.out.display()))
    }
}
