//! What every file of weights offers, whatever its format.

use super::safetensors::Bytes;
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

/// Bytes that are read at once; a multiple of every number's size.
const PIECE: usize = 16 << 20;

/// Little-endian numbers: so many bytes at a place in a file, a piece at a time:
/// the bytes and the numbers of a large tensor are not in memory together.
pub(super) fn numbers_at<const N: usize, T>(
    bytes: &dyn Bytes,
    (from, len): (u64, usize),
    read: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>> {
    let mut numbers = Vec::with_capacity(len / N);
    for at in (0..len).step_by(PIECE) {
        let piece = bytes.read(from + at as u64, PIECE.min(len - at))?;
        numbers.extend(piece.as_chunks::<N>().0.iter().map(|&b| read(b)));
    }
    Ok(numbers)
}

pub(super) fn cut_short(whole: u64, promised: u64) -> crate::Error {
    crate::Error::Checkpoint(format!(
        "the file is cut short: it has {whole} bytes and its header promises {promised}; \
         download or copy it again"
    ))
}
