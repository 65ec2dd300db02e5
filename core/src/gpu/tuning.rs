//! Which variant of a kernel runs, where there are several: chosen by shape,
//! unless a test asks for one.

/// How a matrix product is laid out on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinearVariant {
    /// Tiles of 64 × 64.
    Large,
    /// Tiles of 32 × 32.
    Small,
    /// Tiles of 32 × 32, the inner axis split into parts that are added up by a
    /// second dispatch.
    Split {
        /// At most so many parts.
        parts: usize,
    },
    /// One to four rows, the inner axis shared out among invocations.
    Few,
}

/// How attention is laid out on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionVariant {
    /// Sixteen queries to a workgroup, keys and values staged.
    Tiled,
    /// A workgroup or several to a query.
    Few {
        /// At most so many workgroups share the keys of a query.
        parts: usize,
    },
}

/// What is forced, for tests; what is not is chosen. A variant that cannot do
/// what is asked gives way to one that can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// For `linear` and `conv2d`.
    pub linear: Option<LinearVariant>,
    /// For `attention`.
    pub attention: Option<AttentionVariant>,
}

/// Workgroups that keep most GPUs busy.
const BUSY: usize = 128;
/// Shortest part of an inner axis that is worth a workgroup.
const SHORTEST_PART: usize = 256;

impl LinearVariant {
    /// The variant for `[rows, inner]` by `[cols, inner]`. A picture tower sees
    /// some fifty rows: tiles of 64 would leave most of a GPU idle.
    pub(super) fn choose(rows: usize, cols: usize, inner: usize) -> Self {
        let tiles = |side: usize| rows.div_ceil(side) * cols.div_ceil(side);
        if rows <= 4 {
            return Self::Few;
        }
        if tiles(64) >= BUSY {
            return Self::Large;
        }
        let parts = (2 * BUSY / tiles(32).max(1)).min(inner / SHORTEST_PART);
        if tiles(32) < BUSY && parts > 1 {
            return Self::Split { parts };
        }
        Self::Small
    }
}

impl AttentionVariant {
    /// The variant for so many queries in each of `rows` pairs of sequence and
    /// head.
    pub(super) fn choose(rows: usize, queries: usize, keys: usize) -> Self {
        if queries >= 8 {
            return Self::Tiled;
        }
        let groups = (rows * queries).max(1);
        let parts = (2 * BUSY / groups).min(keys / SHORTEST_PART).max(1);
        Self::Few { parts }
    }
}

#[cfg(test)]
mod tests {
    use super::{AttentionVariant, LinearVariant};

    #[test]
    fn shapes_of_the_towers_get_their_variants() {
        let choose = LinearVariant::choose;
        // ViT-B/32: one picture, then eight of them.
        assert_eq!(choose(50, 2304, 768), LinearVariant::Small);
        assert_eq!(choose(50, 768, 768), LinearVariant::Split { parts: 3 });
        assert_eq!(choose(50, 768, 3072), LinearVariant::Split { parts: 5 });
        assert_eq!(choose(400, 3072, 768), LinearVariant::Large);
        // ViT-L/14 and the projection of a few class tokens.
        assert_eq!(choose(257, 4096, 1024), LinearVariant::Large);
        assert_eq!(choose(257, 1024, 1024), LinearVariant::Small);
        assert_eq!(choose(1, 512, 768), LinearVariant::Few);
        // A token of a language model looks back at four thousand.
        assert_eq!(
            AttentionVariant::choose(32, 1, 4096),
            AttentionVariant::Few { parts: 8 }
        );
        assert_eq!(
            AttentionVariant::choose(12, 50, 50),
            AttentionVariant::Tiled
        );
    }
}
