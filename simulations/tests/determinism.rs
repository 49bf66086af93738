//! The same seed is the same run and another seed another, through the binary that people use.

use std::process::{Command, Output};

fn shoal_sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shoal-sim")).args(args).output().expect("the binary has been built for this test")
}

#[test]
fn five_seeds_are_twice_the_same_and_break_no_invariant() {
    let sweep = shoal_sim(&["sweep", "smoke", "--seeds", "1..5"]);
    let said = String::from_utf8_lossy(&sweep.stdout);
    assert!(sweep.status.success(), "{said}{}", String::from_utf8_lossy(&sweep.stderr));
    assert_eq!(said.lines().filter(|line| line.contains("hash ")).count(), 5, "{said}");
}

#[test]
fn another_seed_is_another_run() {
    let (one, other) = (shoal_sim(&["smoke", "--seed", "1"]), shoal_sim(&["smoke", "--seed", "2"]));
    assert!(one.status.success() && other.status.success());
    assert_ne!(one.stdout, other.stdout);
}

#[test]
fn a_seed_that_is_no_number_is_refused() {
    assert!(!shoal_sim(&["sweep", "--seeds", "many"]).status.success());
}
