# Everything that has to hold before a change is done. `.ci/run` does the same without just.
ready: fmt lint test doc deny

fmt:
    cargo fmt --all --check

lint:
    cargo clippy --locked --all-targets -- --deny warnings

# The README's second command.
test:
    cargo test --locked

doc:
    RUSTDOCFLAGS="--deny warnings" cargo doc --locked --no-deps

deny:
    cargo deny check bans licenses sources

# Readers, clients and a decoder that nobody here wrote, against the built command.
interop:
    tests/interop/run

# Remakes what is in fixtures/.
fixtures:
    fixtures/remake
