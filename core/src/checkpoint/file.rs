//! What every file of weights offers, whatever its format.

use crate::Result;
use crate::backend::WeightData;

/// How a tensor is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The shape, outermost first.
    pub shape: Vec<usize>,
    /// The format's own name of the number type: `F16`, `Q8_0`, ….
    pub dtype: String,
    /// Bytes in the file.
    pub bytes: u64,
}

/// Named tensors, read one at a time.
pub trait TensorFile {
    /// The name of the format.
    fn format(&self) -> &'static str;

    /// The tensors' names, in order.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;

    /// The shape of a tensor, if the file has it.
    fn shape(&self, name: &str) -> Option<&[usize]>;

    /// How a tensor is stored, if the file has it.
    fn stored(&self, name: &str) -> Option<Stored>;

    /// Reads one tensor.
    ///
    /// # Errors
    /// Where it is missing, of a type that is no weight, or unreadable.
    fn read(&self, name: &str) -> Result<WeightData>;
}

/// Little-endian numbers.
pub(super) fn numbers<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&b| read(b)).collect()
}

pub(super) fn cut_short(whole: u64, promised: u64) -> crate::Error {
    crate::Error::Checkpoint(format!(
        "the file is cut short: it has {whole} bytes and its header promises {promised}; \
         download or copy it again"
    ))
}
