//! A list whose first four entries need no allocation: few requests are put to more than four limits.

use std::fmt;

const INLINE: usize = 4;

#[derive(Clone)]
pub(crate) struct Few<T> {
    inline: [Option<T>; INLINE],
    more: Vec<T>,
}

impl<T> Few<T> {
    pub(crate) const fn new() -> Self {
        Self { inline: [const { None }; INLINE], more: Vec::new() }
    }

    pub(crate) const fn one(item: T) -> Self {
        Self { inline: [Some(item), None, None, None], more: Vec::new() }
    }

    pub(crate) fn push(&mut self, item: T) {
        match self.inline.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(item),
            None => self.more.push(item),
        }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.inline.iter().flatten().chain(&self.more)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.inline.iter_mut().flatten().chain(&mut self.more)
    }
}

impl<T: fmt::Debug> fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_everything_in_order() {
        for len in 0..10 {
            let mut few = Few::new();
            (0..len).for_each(|item| few.push(item));
            few.iter_mut().for_each(|item| *item += 1);
            assert_eq!(few.iter().copied().collect::<Vec<_>>(), (1..=len).collect::<Vec<_>>());
            assert_eq!(few.more.capacity() == 0, len <= INLINE);
        }
    }
}
