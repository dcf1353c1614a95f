//! Every bound of the server: one place, each with its unit and reason.
//!
//! A new queue, body, timeout, retry, page or cache gets its bound here first. Each field is also
//! a flag (`--upstream-idle-timeout-ms`) and an environment variable
//! (`FACES_UPSTREAM_IDLE_TIMEOUT_MS`).

use clap::Args;

/// The named limits. Units are the last words of a name.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Largest request body, bytes (Anthropic takes 32 MB; base64 images need it)
    #[arg(long, env = "FACES_BODY_BYTES_MAX", default_value_t = 33_554_432, value_parser = clap::value_parser!(u64).range(1_024..=268_435_456))]
    pub body_bytes_max: u64,

    /// Requests being served at once; more get 503 with Retry-After (bounds memory: a slow stream costs about 24 KiB)
    #[arg(long, env = "FACES_INFLIGHT_REQUESTS_MAX", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub inflight_requests_max: u32,

    /// Time for a client to send its request head, ms (cuts off slow-loris connections)
    #[arg(long, env = "FACES_CLIENT_HEAD_TIMEOUT_MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub client_head_timeout_ms: u64,

    /// Idle time of a client connection between requests, ms (above the 60 s of usual load balancers)
    #[arg(long, env = "FACES_CLIENT_KEEP_ALIVE_MS", default_value_t = 75_000, value_parser = clap::value_parser!(u64).range(0..=3_600_000))]
    pub client_keep_alive_ms: u64,

    /// Interval of SSE heartbeat comments, ms (below the 30-60 s idle limits of proxies)
    #[arg(long, env = "FACES_SSE_HEARTBEAT_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub sse_heartbeat_ms: u64,

    /// Time that running requests get to finish after SIGTERM, ms; then streams end with an error event
    #[arg(long, env = "FACES_SHUTDOWN_GRACE_MS", default_value_t = 25_000, value_parser = clap::value_parser!(u64).range(0..=3_600_000))]
    pub shutdown_grace_ms: u64,

    /// Time between "not ready" and "no longer accepting", ms (lets a load balancer notice)
    #[arg(long, env = "FACES_SHUTDOWN_READY_DELAY_MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub shutdown_ready_delay_ms: u64,

    /// Time to connect to a provider, TLS included, ms
    #[arg(long, env = "FACES_UPSTREAM_CONNECT_TIMEOUT_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub upstream_connect_timeout_ms: u64,

    /// Time from the dispatch to the provider's response head, ms (reasoning models think for minutes before a JSON answer)
    #[arg(long, env = "FACES_UPSTREAM_FIRST_BYTE_TIMEOUT_MS", default_value_t = 600_000, value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    pub upstream_first_byte_timeout_ms: u64,

    /// Longest silence between two reads of a provider's body, ms
    #[arg(long, env = "FACES_UPSTREAM_IDLE_TIMEOUT_MS", default_value_t = 120_000, value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    pub upstream_idle_timeout_ms: u64,

    /// Longest life of one upstream call, ms
    #[arg(long, env = "FACES_UPSTREAM_TOTAL_TIMEOUT_MS", default_value_t = 1_800_000, value_parser = clap::value_parser!(u64).range(10..=86_400_000))]
    pub upstream_total_timeout_ms: u64,

    /// Upstream calls at once to one provider; more get 503 with Retry-After
    #[arg(long, env = "FACES_UPSTREAM_INFLIGHT_MAX", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub upstream_inflight_max: u32,

    /// Largest JSON (not streamed) body of a provider, bytes
    #[arg(long, env = "FACES_UPSTREAM_BODY_BYTES_MAX", default_value_t = 67_108_864, value_parser = clap::value_parser!(u64).range(1_024..=1_073_741_824))]
    pub upstream_body_bytes_max: u64,

    /// Largest SSE record of a provider, bytes (a tool call or an image may come in one event)
    #[arg(long, env = "FACES_SSE_RECORD_BYTES_MAX", default_value_t = 16_777_216, value_parser = clap::value_parser!(u64).range(1_024..=268_435_456))]
    pub sse_record_bytes_max: u64,

    /// Chunks waiting between a provider's connection and a slow client (then the provider is slowed)
    #[arg(long, env = "FACES_STREAM_CHANNEL_CHUNKS", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub stream_channel_chunks: u32,

    /// Calls at once that are read to their end after their client left, where cancelling does not stop the provider's bill; more are cancelled and billed by what was seen
    #[arg(long, env = "FACES_DRAINS_MAX", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub drains_max: u32,

    /// Time for such a call to end after its client left, ms (then it is cancelled and billed by what was seen)
    #[arg(long, env = "FACES_DRAIN_TIMEOUT_MS", default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(0..=86_400_000))]
    pub drain_timeout_ms: u64,

    /// Requests for an answer per minute of one API key on this server; more get 429 with Retry-After (0: any number; `faces admin key rate` sets another one for a key)
    #[arg(long, env = "FACES_KEY_REQUESTS_PER_MINUTE", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    pub key_requests_per_minute: u64,

    /// Tokens per minute of one API key on this server; what a request used counts when it has ended (0: any number)
    #[arg(long, env = "FACES_KEY_TOKENS_PER_MINUTE", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000_000_000))]
    pub key_tokens_per_minute: u64,

    /// Requests for an answer per minute of all credentials of one account on this server (0: any number; `faces admin account rate` sets another one for an account)
    #[arg(long, env = "FACES_ACCOUNT_REQUESTS_PER_MINUTE", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    pub account_requests_per_minute: u64,

    /// Tokens per minute of all credentials of one account on this server (0: any number)
    #[arg(long, env = "FACES_ACCOUNT_TOKENS_PER_MINUTE", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000_000_000))]
    pub account_tokens_per_minute: u64,

    /// Keys and accounts whose minute is kept in memory (one that is forgotten begins a new minute)
    #[arg(long, env = "FACES_RATE_ENTRIES_MAX", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    pub rate_entries_max: u32,

    /// Time between two additions of settled requests to the usage by day, ms (what is not added yet is read row by row, so answers are always exact)
    #[arg(long, env = "FACES_USAGE_ROLLUP_INTERVAL_MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(100..=86_400_000))]
    pub usage_rollup_interval_ms: u64,

    /// Requests added to the usage by day in one transaction (while it writes, other writers of an SQLite file wait: up to tens of milliseconds per 1,000)
    #[arg(long, env = "FACES_USAGE_ROLLUP_ROWS_MAX", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub usage_rollup_rows_max: u32,

    /// How long an Idempotency-Key is kept, ms (a client's retries end long before)
    #[arg(long, env = "FACES_IDEMPOTENCY_TTL_MS", default_value_t = 86_400_000, value_parser = clap::value_parser!(u64).range(1_000..=2_592_000_000))]
    pub idempotency_ttl_ms: u64,

    /// Largest JSON answer kept for an Idempotency-Key, bytes (it is written with its settlement; of larger ones and of streams only usage and cost are kept)
    #[arg(long, env = "FACES_IDEMPOTENCY_BODY_BYTES_MAX", default_value_t = 262_144, value_parser = clap::value_parser!(u64).range(0..=1_048_576))]
    pub idempotency_body_bytes_max: u64,

    /// Pause between two deltas of the built-in `sandbox` model, ms
    #[arg(long, env = "FACES_SANDBOX_DELTA_INTERVAL_MS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub sandbox_delta_interval_ms: u64,

    /// Ledger operations in one database transaction (a commit costs the same for 1 or 500)
    #[arg(long, env = "FACES_FLUSH_OPS_MAX", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub flush_ops_max: u32,

    /// Holds waiting for the ledger; more get 503 (settlements are never refused)
    #[arg(long, env = "FACES_LEDGER_QUEUE_OPS_MAX", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub ledger_queue_ops_max: u32,

    /// Output tokens that a running stream holds at a time; it takes more as it goes on (small: an account can run more streams at once; large: fewer writes)
    #[arg(long, env = "FACES_HOLD_SLICE_TOKENS", default_value_t = 4_096, value_parser = clap::value_parser!(u64).range(256..=1_000_000_000))]
    pub hold_slice_tokens: u64,

    /// Longest wait for a hold or a settlement to become durable, ms
    #[arg(long, env = "FACES_LEDGER_WAIT_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub ledger_wait_ms: u64,

    /// Idle time after which an account's actor leaves memory, ms
    #[arg(long, env = "FACES_ACCOUNT_IDLE_MS", default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(100..=86_400_000))]
    pub account_idle_ms: u64,

    /// Persona prompt budget, tokens (facts are always present; primitives fill the rest)
    #[arg(long, env = "FACES_PERSONA_TOKENS_MAX", default_value_t = 1_500, value_parser = clap::value_parser!(u32).range(100..=200_000))]
    pub persona_tokens_max: u32,

    /// Primitives of one face
    #[arg(long, env = "FACES_PRIMITIVES_MAX", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub primitives_max: u32,

    /// Characters of one primitive
    #[arg(long, env = "FACES_PRIMITIVE_CHARS_MAX", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub primitive_chars_max: u32,

    /// Documents of one face, and threads of one face
    #[arg(long, env = "FACES_SOURCES_PER_FACE_MAX", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sources_per_face_max: u32,

    /// Largest text of one document or thread, bytes (a long novel has 1 MiB; a text is in memory while it is cut)
    #[arg(long, env = "FACES_COMPILE_CONTENT_BYTES_MAX", default_value_t = 4_194_304, value_parser = clap::value_parser!(u64).range(1_024..=67_108_864))]
    pub compile_content_bytes_max: u64,

    /// Estimated tokens of a piece that a model reads at once (small: it misses less; large: fewer calls)
    #[arg(long, env = "FACES_COMPILE_CHUNK_TOKENS", default_value_t = 1_500, value_parser = clap::value_parser!(u32).range(16..=100_000))]
    pub compile_chunk_tokens: u32,

    /// Most tokens of the answer about a piece, reasoning included (it is held while the piece is read)
    #[arg(long, env = "FACES_COMPILE_ANSWER_TOKENS_MAX", default_value_t = 8_192, value_parser = clap::value_parser!(u32).range(256..=200_000))]
    pub compile_answer_tokens_max: u32,

    /// Sources compiled at once by this server
    #[arg(long, env = "FACES_COMPILE_JOBS_MAX", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub compile_jobs_max: u32,

    /// Pieces of one source read at once
    #[arg(long, env = "FACES_COMPILE_CHUNKS_MAX", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub compile_chunks_max: u32,

    /// Tries without a step forward after which a source stalls, or fails when its servers died of it
    #[arg(long, env = "FACES_COMPILE_ATTEMPTS_MAX", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub compile_attempts_max: u32,

    /// Pause before the second try, ms; doubled with each
    #[arg(long, env = "FACES_COMPILE_BACKOFF_MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub compile_backoff_ms: u64,

    /// How long a server that says nothing keeps a source that it compiles, ms (then another one goes on with it)
    #[arg(long, env = "FACES_COMPILE_LEASE_MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(300..=3_600_000))]
    pub compile_lease_ms: u64,

    /// How often an idle server looks for sources that others have queued, ms
    #[arg(long, env = "FACES_COMPILE_POLL_MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub compile_poll_ms: u64,

    /// How long a sync waits for its end before it answers how far it is, ms (below the 60 s of usual clients)
    #[arg(long, env = "FACES_COMPILE_SYNC_WAIT_MS", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub compile_sync_wait_ms: u64,

    /// Largest file of an upload, bytes
    #[arg(long, env = "FACES_UPLOAD_BYTES_MAX", default_value_t = 33_554_432, value_parser = clap::value_parser!(u64).range(1_024..=268_435_456))]
    pub upload_bytes_max: u64,

    /// Pages of an uploaded PDF
    #[arg(long, env = "FACES_UPLOAD_PAGES_MAX", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub upload_pages_max: u32,

    /// What a compressed part of an uploaded file may unpack to, bytes (a small file can unpack to very much)
    #[arg(long, env = "FACES_UPLOAD_UNPACKED_BYTES_MAX", default_value_t = 67_108_864, value_parser = clap::value_parser!(u64).range(1_024..=1_073_741_824))]
    pub upload_unpacked_bytes_max: u64,

    /// Uploaded files whose text is read at once, each on a thread of its own; others wait
    #[arg(long, env = "FACES_UPLOAD_READERS_MAX", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub upload_readers_max: u32,

    /// Time to read the text of an uploaded file, and to wait for a reader, ms
    #[arg(long, env = "FACES_UPLOAD_READ_TIMEOUT_MS", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub upload_read_timeout_ms: u64,

    /// Messages of one thread
    #[arg(long, env = "FACES_THREAD_MESSAGES_MAX", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub thread_messages_max: u32,

    /// Characters of one message of a thread
    #[arg(long, env = "FACES_THREAD_MESSAGE_CHARS_MAX", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub thread_message_chars_max: u32,

    /// Most tokens of an interviewer's question, reasoning included (they are held while it is asked)
    #[arg(long, env = "FACES_INTERVIEW_ANSWER_TOKENS_MAX", default_value_t = 2_048, value_parser = clap::value_parser!(u32).range(64..=200_000))]
    pub interview_answer_tokens_max: u32,

    /// Characters of an interview that its interviewer sees; the newest messages count
    #[arg(long, env = "FACES_INTERVIEW_HISTORY_CHARS_MAX", default_value_t = 60_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    pub interview_history_chars_max: u32,

    /// Faces of one account
    #[arg(long, env = "FACES_FACES_PER_ACCOUNT_MAX", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub faces_per_account_max: u32,

    /// Faces in one comparison (GET /v1/faces/diff): each is compared with each
    #[arg(long, env = "FACES_DIFF_FACES_MAX", default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=100))]
    pub diff_faces_max: u32,

    /// Formulas of faces that are evaluated at the same time; others wait for their turn (three faces of 3,000 statements that are much alike take a core two seconds, after which the result is cached)
    #[arg(long, env = "FACES_FORMULA_EVALUATIONS_MAX", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub formula_evaluations_max: u32,

    /// Statements that one request may embed to bring its account's centroids up to date; the rest are left to the next ones (503 with Retry-After until all are done)
    #[arg(long, env = "FACES_CENTROID_STATEMENTS_MAX", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub centroid_statements_max: u32,

    /// Statements in one call to the model of FACES_EMBEDDING_MODEL (OpenAI takes 2048; 128 vectors of 3072 values are about 8 MB of JSON)
    #[arg(long, env = "FACES_EMBEDDING_BATCH_MAX", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=2_048))]
    pub embedding_batch_max: u32,

    /// Text in one such call, bytes (a token is at least a byte, and OpenAI takes 300,000 tokens; one statement always goes)
    #[arg(long, env = "FACES_EMBEDDING_BATCH_BYTES_MAX", default_value_t = 131_072, value_parser = clap::value_parser!(u64).range(1_024..=16_777_216))]
    pub embedding_batch_bytes_max: u64,

    /// Such calls that one request may make, one after the other; the rest are left to the next ones (503 with Retry-After until all are done)
    #[arg(long, env = "FACES_EMBEDDING_CALLS_MAX", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub embedding_calls_max: u32,

    /// How long a key, a face or a price may be served from memory after a change on another instance, ms
    #[arg(long, env = "FACES_CACHE_TTL_MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub cache_ttl_ms: u64,

    /// Keys kept in memory
    #[arg(long, env = "FACES_KEY_CACHE_ENTRIES_MAX", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub key_cache_entries_max: u32,

    /// Faces kept in memory with their index
    #[arg(long, env = "FACES_FACE_CACHE_ENTRIES_MAX", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub face_cache_entries_max: u32,

    /// Largest body of a login or registration, bytes (anybody may send one)
    #[arg(long, env = "FACES_LOGIN_BODY_BYTES_MAX", default_value_t = 16_384, value_parser = clap::value_parser!(u64).range(1_024..=1_048_576))]
    pub login_body_bytes_max: u64,

    /// Life of a login token, ms
    #[arg(long, env = "FACES_LOGIN_TOKEN_MS", default_value_t = 86_400_000, value_parser = clap::value_parser!(u64).range(1_000..=31_536_000_000))]
    pub login_token_ms: u64,

    /// Longest password, bytes (all of it is hashed)
    #[arg(long, env = "FACES_PASSWORD_BYTES_MAX", default_value_t = 256, value_parser = clap::value_parser!(u32).range(64..=4_096))]
    pub password_bytes_max: u32,

    /// Memory of one argon2id hash, KiB (19 MiB with 2 passes is what OWASP asks for at least; raising it makes guessing dearer)
    #[arg(long, env = "FACES_PASSWORD_MEMORY_KIB", default_value_t = 19_456, value_parser = clap::value_parser!(u32).range(64..=1_048_576))]
    pub password_memory_kib: u32,

    /// Passes of one argon2id hash over its memory
    #[arg(long, env = "FACES_PASSWORD_PASSES", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub password_passes: u32,

    /// Passwords hashed at once (each takes a core and FACES_PASSWORD_MEMORY_KIB)
    #[arg(long, env = "FACES_PASSWORD_HASHES_MAX", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub password_hashes_max: u32,

    /// Passwords waiting to be hashed; more get 503 with Retry-After
    #[arg(long, env = "FACES_PASSWORD_QUEUE_MAX", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub password_queue_max: u32,

    /// Time over which attempts to log in or register are counted, ms (each server counts for itself)
    #[arg(long, env = "FACES_LOGIN_WINDOW_MS", default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(100..=86_400_000))]
    pub login_window_ms: u64,

    /// Logins from one address in that time; more get 429 with Retry-After (an office shares an address)
    #[arg(long, env = "FACES_LOGINS_PER_ADDRESS_MAX", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub logins_per_address_max: u32,

    /// Failed logins of one account in that time, from anywhere; more get 429 with Retry-After
    #[arg(long, env = "FACES_LOGIN_FAILURES_PER_ACCOUNT_MAX", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub login_failures_per_account_max: u32,

    /// Registrations from one address in that time; more get 429 with Retry-After
    #[arg(long, env = "FACES_REGISTRATIONS_PER_ADDRESS_MAX", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub registrations_per_address_max: u32,

    /// Addresses and accounts whose attempts are counted; beyond it the counts of some are forgotten
    #[arg(long, env = "FACES_LOGIN_THROTTLE_ENTRIES_MAX", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub login_throttle_entries_max: u32,

    /// Accounts whose logins are kept in memory
    #[arg(long, env = "FACES_LOGIN_CACHE_ENTRIES_MAX", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub login_cache_entries_max: u32,

    /// Keys of one account that are not revoked
    #[arg(long, env = "FACES_KEYS_PER_ACCOUNT_MAX", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub keys_per_account_max: u32,

    /// Interval in which it is written when keys were used last, ms (of each key at most once a minute)
    #[arg(long, env = "FACES_KEY_USES_FLUSH_MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    pub key_uses_flush_ms: u64,

    /// Database connections (PostgreSQL; SQLite has one writer and this many readers, at most 4)
    #[arg(long, env = "FACES_DB_CONNECTIONS_MAX", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    pub db_connections_max: u32,

    /// Longest wait for a database connection, ms
    #[arg(long, env = "FACES_DB_ACQUIRE_TIMEOUT_MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub db_acquire_timeout_ms: u64,

    /// Longest wait for what a request reads of the database, its connection included, ms (then 503; a connection that was cut off without a word never answers)
    #[arg(long, env = "FACES_DB_READ_TIMEOUT_MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub db_read_timeout_ms: u64,
}

/// Everything at its default: what a test or a tool without a command line uses.
impl Default for Limits {
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            limits: Limits,
        }
        let mut matches = <Defaults as clap::CommandFactory>::command();
        matches = matches.mut_args(|arg| arg.env(None::<&'static str>));
        let parsed = matches.get_matches_from(["faces"]);
        match <Limits as clap::FromArgMatches>::from_arg_matches(&parsed) {
            Ok(limits) => limits,
            Err(error) => error.exit(),
        }
    }
}
