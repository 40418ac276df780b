//! How much memory and work an input may cause: what the targets `amplify_*` hold the core to.
//!
//! Each bound is a constant and a factor of the input, so that libFuzzer looks for inputs that cost more than they weigh.

/// A constant and a factor.
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

/// Bytes of memory that a pass over a layer takes, by the bytes of the layer.
pub(crate) const LAYER_MEMORY: Bound = Bound {
    constant: 64 * MIB,
    factor: 4,
};

/// Bytes that a pass allocates one after the other, by the bytes of the archive.
pub(crate) const LAYER_WORK: Bound = Bound {
    constant: 512 * MIB,
    factor: 64,
};

/// Bytes of memory that a lookup takes, by the bytes of the layers.
pub(crate) const LOOKUP_MEMORY: Bound = Bound {
    constant: 32 * MIB,
    factor: 4,
};

/// Seeks that a lookup makes, however many components its path has: as many as the budget of a request grants.
pub(crate) const LOOKUP_SEEKS: Bound = Bound {
    constant: 100_000,
    factor: 0,
};

/// Bytes that a lookup allocates one after the other, by the bytes of the layers and of the path.
pub(crate) const LOOKUP_WORK: Bound = Bound {
    constant: 1024 * MIB,
    factor: 64,
};

/// Bytes of memory that parsing a manifest takes, by its bytes.
pub(crate) const MANIFEST_MEMORY: Bound = Bound {
    constant: 64 << 10,
    factor: 24,
};
