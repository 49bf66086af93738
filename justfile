# The same commands exist as cargo aliases in .cargo/config.toml for those without just.

# What there is
default:
    @just --list --unsorted

# Exactly what CI runs
check:
    bash .ci/run

# The tests
test:
    cargo test --workspace

# The rules of the tree alone: imports, names, links
tidy:
    cargo tidy

# A gateway, services behind it and a little traffic, in one process
demo:
    cargo demo

# One node on examples/one-node.toml
run:
    bash examples/certs.sh && cargo run --release --bin shoal -- run -c examples/one-node.toml

# One scenario, one seed, its trace on screen
sim scenario seed:
    cargo sim {{scenario}} --seed {{seed}}

# Many seeds, each twice and compared
sweep seeds="1..50":
    cargo sim sweep --seeds {{seeds}}

# Whether equal seeds give equal traces
meta:
    cargo sim meta

# Inputs that nobody would send, for everything that reads what a peer has written
fuzz seconds="10":
    cargo sim fuzz --seconds {{seconds}}

# Licences, advisories and duplicates of the dependencies, with cargo-deny
deny:
    cargo deny check

# shoal beside its peers; see bench/README.md
bench:
    bench/setup.sh && bench/bench.py check && bench/bench.py run && bench/bench.py idle && bench/bench.py report
