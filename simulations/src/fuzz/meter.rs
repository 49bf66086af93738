//! How much memory a piece of work holds at a time, counted where all memory comes from.
//!
//! Each thread counts for itself, and only while it is told to: everything else in this binary pays one look at a flag.

#![expect(unsafe_code, reason = "an allocator cannot be written in safe Rust")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// Nothing that is fuzzed holds so much: who asks for it is stopped before the machine is out of memory.
const ABSURD: usize = 256 << 20;

#[global_allocator]
static ALLOCATOR: Metered = Metered;

struct Metered;

struct Count {
    on: Cell<bool>,
    held: Cell<isize>,
    most: Cell<isize>,
}

thread_local! {
    // Const and without a destructor: it can be read before, during and after everything else on the thread.
    static COUNT: Count = const { Count { on: Cell::new(false), held: Cell::new(0), most: Cell::new(0) } };
}

/// Counts what `work` holds, beginning at nothing.
pub(crate) fn metered<T>(work: impl FnOnce() -> T) -> T {
    let _off = On::new();
    work()
}

/// The most that was held at a time since this was asked last.
pub(crate) fn take_most() -> usize {
    COUNT.with(|count| count.most.replace(0)).max(0).cast_unsigned()
}

struct On;

impl On {
    fn new() -> Self {
        COUNT.with(|count| {
            count.held.set(0);
            count.on.set(true);
        });
        Self
    }
}

impl Drop for On {
    fn drop(&mut self) {
        COUNT.with(|count| count.on.set(false));
    }
}

fn changes(by: isize) {
    let _ = COUNT.try_with(|count| {
        if count.on.get() {
            let held = count.held.get() + by;
            count.held.set(held);
            count.most.set(count.most.get().max(held));
            if by > ABSURD.cast_signed() {
                count.on.set(false);
                super::last_words(&format!("it asks for {by} bytes at once"));
            }
        }
    });
}

fn size(layout: Layout) -> isize {
    // No layout is larger than the largest isize.
    layout.size().cast_signed()
}

// SAFETY: everything is done by the system's allocator, with the arguments as they came.
unsafe impl GlobalAlloc for Metered {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        changes(size(layout));
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        changes(-size(layout));
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        changes(size(layout));
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        changes(new.cast_signed() - size(layout));
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.realloc(pointer, layout, new) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_is_held_at_a_time_counts() {
        take_most();
        metered(|| {
            drop(Vec::<u8>::with_capacity(1_000));
            let mut grows = Vec::<u8>::with_capacity(300);
            grows.reserve_exact(500);
            drop(Vec::<u8>::with_capacity(400));
        });
        drop(Vec::<u8>::with_capacity(5_000));
        assert_eq!(take_most(), 1_000);
        assert_eq!(take_most(), 0);
    }

    #[test]
    fn a_panic_ends_the_counting() {
        take_most();
        let _ = std::panic::catch_unwind(|| metered(|| std::panic::resume_unwind(Box::new(()))));
        let before = take_most();
        drop(Vec::<u8>::with_capacity(50_000));
        assert!(before < 1_000 && take_most() == 0);
    }
}
