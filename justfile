# Recipes of the house; `just` lists them. CI runs `.ci/run`, which does the same as `just ci`.
set shell := ["bash", "-euo", "pipefail", "-c"]

# List the recipes
default:
    @just --list --unsorted

# Serve with the settings of .env and the environment
run *ARGS:
    cargo run --release -- {{ARGS}}

# Format, lints, docs: everything but the tests
check:
    cargo fmt --all -- --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# All tests, or those whose name holds FILTER
test *FILTER:
    cargo test --workspace {{FILTER}}

# Play COUNT seeds of the ledger's simulation from SEED on, optimised; a failure says how to replay it
sim COUNT="100000" SEED="0":
    SIM_SEEDS={{COUNT}} SIM_SEED={{SEED}} cargo test --release -p faces --lib -- sim::the_seed --nocapture

# Visit STATES states of the ledger's protocol for each pair of policies, and walk WALKS times at random
check-protocol STATES="1000000" WALKS="100000":
    CHECK_STATES={{STATES}} CHECK_WALKS={{WALKS}} cargo test --release -p faces --lib -- protocol:: --nocapture

# The house rules alone: import table, sizes, headers
rules:
    cargo test --test architecture

# What CI runs, from the same script
ci:
    .ci/run

# Format everything
fmt:
    cargo fmt --all

# Docs of the rooms in the browser
doc:
    cargo doc --workspace --no-deps --document-private-items --open

# Accept what the snapshot tests now print; read the diff before you commit it
snap *FILTER:
    INSTA_UPDATE=always cargo test --workspace {{FILTER}}
    git --no-pager diff --stat

# Write .env.example from the definitions of the settings
env-example:
    INSTA_UPDATE=always cargo test --lib the_env_example

# Migrate the database of DATABASE_URL: up, down, status, fresh
migrate *ARGS="up":
    cargo run -p migration -- {{ARGS}}

# PostgreSQL, three instances and nginx on loopback, until Ctrl-C; `just cluster --smoke` tests them
cluster *ARGS:
    cargo build -p faces
    deploy/cluster {{ARGS}}

# Chaos on real processes, with that many faults (200); CHAOS_SEED plays a schedule again
chaos FAULTS="":
    CHAOS_FAULTS={{FAULTS}} cargo test --test chaos -- --nocapture

# Criterion benches: SSE, prompt splice, ledger arithmetic
bench *ARGS:
    cargo bench -p faces {{ARGS}}

# Holds per second on SQLite and PostgreSQL; `benches/load/ledger` has the time to the first byte
bench-ledger:
    cargo bench -p faces --bench ledger

# Usage and invoices over ten million charges on SQLite and PostgreSQL (CHARGES)
bench-usage CHARGES="10000000":
    USAGE_CHARGES={{CHARGES}} cargo bench -p faces --bench usage

# Lists, usage and chat with 1,000 faces, 10,000 keys and 10 million charges on SQLite (half an hour)
bench-scale *ARGS:
    cargo build --release -p faces
    benches/load/scale {{ARGS}}

# Load comparison of direct, nginx and faces in one run (root gives pinning and a private network)
bench-load *ARGS:
    benches/load/run {{ARGS}}
