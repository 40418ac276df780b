//! Values by number, in memory that grows in pieces: growing copies nothing.

/// Values by number.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    pieces: Vec<Vec<T>>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<T: Copy + Default> Arena<T> {
    /// The number of values.
    pub(crate) fn len(&self) -> u32 {
        let last = self.pieces.last().map_or(0, Vec::len);
        let full = self.pieces.len().saturating_sub(1) << PIECE_BITS;
        u32::try_from(full + last).unwrap_or(u32::MAX)
    }

    /// Adds a value, and returns its number.
    pub(crate) fn push(&mut self, value: T) -> u32 {
        let number = self.len();
        match self.pieces.last_mut() {
            Some(piece) if piece.len() < PIECE => piece.push(value),
            _ => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(value);
                self.pieces.push(piece);
            }
        }
        number
    }

    /// The value of a number. The default value for an unknown number.
    pub(crate) fn at(&self, number: u32) -> T {
        let (piece, at) = split(number);
        let found = self.pieces.get(piece).and_then(|piece| piece.get(at));
        found.copied().unwrap_or_default()
    }

    /// Changes the value of a number.
    pub(crate) fn change(&mut self, number: u32, change: impl FnOnce(&mut T)) {
        let (piece, at) = split(number);
        if let Some(found) = self
            .pieces
            .get_mut(piece)
            .and_then(|piece| piece.get_mut(at))
        {
            change(found);
        }
    }

    /// Its memory in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.pieces.len() * PIECE * size_of::<T>()
    }
}

const fn split(number: u32) -> (usize, usize) {
    let number = number as usize;
    (number >> PIECE_BITS, number & (PIECE - 1))
}

const PIECE_BITS: u32 = 12;
const PIECE: usize = 1 << PIECE_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_returns_each_value_by_its_number() {
        let mut arena = Arena::default();
        assert_eq!(arena.len(), 0);
        for value in 0..20_000_u32 {
            assert_eq!(arena.push(value * 3), value);
        }
        arena.change(19_999, |value| *value += 1);
        arena.change(20_000, |_| unreachable!());
        assert_eq!(
            (arena.len(), arena.at(4_096), arena.at(19_999)),
            (20_000, 12_288, 59_998)
        );
        assert_eq!(arena.at(20_000), 0);
        assert_eq!(arena.memory(), 5 * 4_096 * 4);
    }
}
