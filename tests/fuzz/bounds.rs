//! The bounds on the memory and work that an input may cause. The targets `amplify_*` assert them.
//!
//! Each bound is a constant plus a factor of the input's size, so that libFuzzer looks for small
//! inputs of high cost.

/// A bound that is linear in the size of the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) constant: usize,
    pub(crate) factor: usize,
}

impl Bound {
    pub(crate) const fn of(self, input: usize) -> usize {
        self.constant + self.factor * input
    }
}

const MIB: usize = 1 << 20;

/// Peak memory of a pass over a layer, by the bytes of the layer.
pub(crate) const LAYER_MEMORY: Bound = Bound {
    constant: 64 * MIB,
    factor: 4,
};

/// Total bytes that a pass allocates, by the bytes of the archive.
pub(crate) const LAYER_WORK: Bound = Bound {
    constant: 512 * MIB,
    factor: 64,
};

/// Peak memory of a lookup, by the bytes of the layers.
pub(crate) const LOOKUP_MEMORY: Bound = Bound {
    constant: 32 * MIB,
    factor: 4,
};

/// Seeks of a lookup, for a path of any length: the budget of a request.
pub(crate) const LOOKUP_SEEKS: Bound = Bound {
    constant: 100_000,
    factor: 0,
};

/// Total bytes that a lookup allocates, by the bytes of the layers and of the path.
pub(crate) const LOOKUP_WORK: Bound = Bound {
    constant: 1024 * MIB,
    factor: 64,
};

/// Peak memory of parsing a manifest, by its bytes.
pub(crate) const MANIFEST_MEMORY: Bound = Bound {
    constant: 64 << 10,
    factor: 24,
};
