//! Sources, their queue, and the primitives that they give.

use ::faces::{
    domain::{
        AccountId, FaceId, FaceName, NanoUsd, SourceId,
        clock::UnixMicros,
        compile::{CompileEvent, CompileGoal, CompileState, Perspective, SourceKind},
    },
    storage::{
        Db, StorageError,
        compile::{
            Job, JobEnd, MessageRow, NewSource, Quota, SourceEdit, SourceFilter, SourceRow,
            SyncPlan, SyncVerdict, ThreadLength, Transition, Withdrawal, append_messages,
            apply_event, claim_job, count_sources, edit_source, end_job, extend_lease, extractions,
            find_source, finish_chunk, insert_source, list_messages, list_sources,
            load_sourced_primitives, open_chunks, pending_sources, plan_chunks, read_face_quotas,
            read_quota, rekey_chunk, release_lease, retry_job, set_overflow, thread_lengths,
            withdraw_source, write_sync,
        },
        faces::{
            FaceContent, FacePrimitives, FaceRow, NewFace, PrimitiveRow, delete_face, find_face,
            insert_face,
        },
    },
};
use futures_util::future::join_all;

use crate::{accounts::some_account, on_both_databases, store::TestStore};

const LEASE_MS: i64 = 60_000;
const MAKE: CompileEvent = CompileEvent::Start(CompileGoal::Make);
const NO_LIMIT: Quota = Quota { period_start: UnixMicros(0), tokens_limit: None };

fn primitive(text: &str) -> PrimitiveRow {
    PrimitiveRow { component: "beta".to_owned(), text: text.to_owned(), weight: 1.0 }
}

/// A face with one imported primitive.
async fn some_face(db: &Db, account_id: AccountId) -> FaceRow {
    let content = FaceContent {
        username: FaceName::parse("alice").unwrap(),
        name: "Alice".to_owned(),
        facts: "{}".to_owned(),
        default_model: None,
        default_tools: Vec::new(),
        formula: None,
        description: None,
        profile_addendum: None,
    };
    let new = NewFace { id: FaceId::generate(), account_id, content };
    let rows = vec![primitive("imported")];
    insert_face(db, new, FacePrimitives { rows, component_counts: None }).await.unwrap()
}

fn document(face: &FaceRow) -> NewSource {
    NewSource {
        id: SourceId::generate(),
        account_id: face.account_id,
        face_id: face.id,
        kind: SourceKind::Document,
        label: "Bio".to_owned(),
        content: "I love tea. Ü 猫".to_owned(),
        messages: Vec::new(),
        perspective: Some(Perspective::FirstPerson),
        source: "api".to_owned(),
        face_speaker: None,
        interviewer_payer: None,
        token_count: 100,
    }
}

fn message(role: &str, content: &str) -> MessageRow {
    let name = Some("Alice".to_owned());
    MessageRow { role: role.to_owned(), content: content.to_owned(), name, archived: false }
}

async fn event(db: &Db, source: &SourceRow, event: CompileEvent) -> Transition {
    apply_event(db, source.account_id, source.id, event, None).await.unwrap()
}

async fn state(db: &Db, source: &SourceRow) -> CompileState {
    find_source(db, source.account_id, source.id).await.unwrap().unwrap().state
}

/// Makes a document, starts its job, claims it and brings it to the point of being written.
async fn ready_to_write(db: &Db, face: &FaceRow) -> (SourceRow, Job) {
    let source = insert_source(db, document(face)).await.unwrap();
    event(db, &source, MAKE).await;
    let job = claim_job(db, LEASE_MS).await.unwrap().unwrap();
    assert_eq!(job.source_id, source.id);
    plan_chunks(db, &job, 1, vec!["whole".to_owned()]).await.unwrap();
    finish_chunk(db, &job, 1, 0, "{}".to_owned(), NanoUsd(7)).await.unwrap();
    end_job(db, &job, JobEnd::ChunksDone).await.unwrap();
    (source, job)
}

async fn plan(db: &Db, face: &FaceRow) -> SyncPlan {
    let face = find_face(db, face.account_id, &face.username).await.unwrap().unwrap();
    SyncPlan {
        face_id: face.id,
        face_version: face.version,
        face_facts: r#"{"city":"Ghent"}"#.to_owned(),
        removed: Vec::new(),
        linked: Vec::new(),
        added: Vec::new(),
        counts: r#"{"beta":1}"#.to_owned(),
        source_facts: "{}".to_owned(),
        quota: NO_LIMIT,
    }
}

async fn texts(db: &Db, face: &FaceRow) -> Vec<(i64, String, usize)> {
    let primitives = load_sourced_primitives(db, face.id).await.unwrap();
    let shown = primitives.into_iter().map(|one| (one.position, one.row.text, one.sources.len()));
    shown.collect()
}

async fn a_source_is_read_as_it_was_written_and_by_its_owner_only(store: TestStore) {
    let db = &store.db;
    let (ada, bob) = (some_account(db).await, some_account(db).await);
    let face = some_face(db, ada).await;
    let new = document(&face);
    let kept = insert_source(db, new.clone()).await.unwrap();
    assert_eq!((kept.id, kept.face_id, kept.face.as_str()), (new.id, face.id, "alice"));
    assert_eq!((kept.content.as_str(), kept.perspective), (&*new.content, new.perspective));
    assert_eq!((kept.version, kept.generation, kept.state), (1, 1, CompileState::Idle));
    assert_eq!(find_source(db, ada, new.id).await.unwrap(), Some(kept.clone()));
    assert_eq!(find_source(db, bob, new.id).await.unwrap(), None);
    let foreign = NewSource { id: SourceId::generate(), account_id: bob, ..new.clone() };
    let refused = insert_source(db, foreign).await;
    assert!(matches!(refused, Err(StorageError::Missing { what: "face" })), "{refused:?}");
    let edit = edit_source(db, bob, new.id, SourceEdit::default()).await;
    assert!(matches!(edit, Err(StorageError::Missing { .. })), "{edit:?}");
    let started = apply_event(db, bob, new.id, MAKE, None).await;
    assert!(matches!(started, Err(StorageError::Missing { .. })), "{started:?}");
    assert_eq!(pending_sources(db, bob, face.id).await.unwrap(), []);
    assert_eq!(pending_sources(db, ada, face.id).await.unwrap(), [new.id]);
}

async fn lists_are_paged_and_filtered_and_leave_the_texts_out(store: TestStore) {
    let db = &store.db;
    let account = some_account(db).await;
    let face = some_face(db, account).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(insert_source(db, document(&face)).await.unwrap().id);
    }
    let all = SourceFilter { kind: SourceKind::Document, face_id: None, usernames: None };
    let list = |filter: &SourceFilter, after, limit| {
        list_sources(db, account, filter.clone(), after, limit)
    };
    let found = list(&all, Some(ids[0]), 1).await.unwrap();
    assert_eq!((found.len(), found[0].id, found[0].content.as_str()), (1, ids[1], ""));
    let by_face = SourceFilter { face_id: Some(face.id), ..all.clone() };
    assert_eq!(list(&by_face, None, 9).await.unwrap().len(), 3);
    let none = SourceFilter { face_id: Some(FaceId::generate()), ..all.clone() };
    assert_eq!(list(&none, None, 9).await.unwrap().len(), 0);
    for (names, count) in [(vec!["bob", "alice"], 3), (vec!["bob"], 0), (vec![], 0)] {
        let usernames = Some(names.iter().map(|name| (*name).to_owned()).collect());
        let named = SourceFilter { usernames, ..all.clone() };
        assert_eq!(list(&named, None, 9).await.unwrap().len(), count, "{names:?}");
    }
    let threads = SourceFilter { kind: SourceKind::Thread, ..all };
    assert_eq!(list(&threads, None, 9).await.unwrap().len(), 0);
    assert_eq!(count_sources(db, face.id, SourceKind::Document).await.unwrap(), 3);
}

async fn another_text_drops_what_was_extracted_and_another_label_does_not(store: TestStore) {
    let db = &store.db;
    let account = some_account(db).await;
    let face = some_face(db, account).await;
    let (source, job) = ready_to_write(db, &face).await;
    let label = SourceEdit { label: Some("New".to_owned()), ..SourceEdit::default() };
    let labelled = edit_source(db, account, source.id, label).await.unwrap();
    assert_eq!((labelled.version, labelled.state), (1, CompileState::Syncing));
    let content = SourceEdit { content: Some(("Other".to_owned(), 9)), ..SourceEdit::default() };
    let edited = edit_source(db, account, source.id, content).await.unwrap();
    assert_eq!((edited.version, edited.generation, edited.token_count), (2, 2, 9));
    assert_eq!((edited.state, edited.chunks_total), (CompileState::Idle, 0));
    assert_eq!((edited.label.as_str(), edited.content.as_str()), ("New", "Other"));
    let late = write_sync(db, &job, plan(db, &face).await).await;
    assert!(matches!(late, Err(StorageError::Stale { .. })), "{late:?}");
    assert_eq!(extractions(db, source.id, 1).await.unwrap(), [""; 0]);
}

async fn a_thread_keeps_its_messages_in_order_and_loses_no_turn(store: TestStore) {
    let db = &store.db;
    let account = some_account(db).await;
    let face = some_face(db, account).await;
    let messages = vec![message("assistant", "Who are you?")];
    let thread = NewSource { kind: SourceKind::Thread, messages, ..document(&face) };
    let id = insert_source(db, thread).await.unwrap().id;
    let turn = vec![message("user", "Alice."), message("assistant", "And?")];
    let append = |seen| append_messages(db, account, id, seen, turn.clone(), 3);
    let after = append((1, 1)).await.unwrap();
    assert_eq!((after.version, after.token_count), (2, 3));
    for seen in [(1, 1), (2, 1), (1, 3)] {
        let again = append(seen).await;
        assert!(matches!(again, Err(StorageError::Stale { .. })), "{seen:?}: {again:?}");
    }
    let said: Vec<String> =
        list_messages(db, id).await.unwrap().into_iter().map(|one| one.content).collect();
    assert_eq!(said, ["Who are you?", "Alice.", "And?"]);
    let lengths = thread_lengths(db, vec![id, SourceId::generate()]).await.unwrap();
    assert_eq!(lengths, [ThreadLength { id, messages: 3, archived: 0 }]);
    assert_eq!(thread_lengths(db, Vec::new()).await.unwrap(), []);
    let replaced = (vec![message("user", "Only this.")], 4);
    let edit = SourceEdit { messages: Some(replaced), ..SourceEdit::default() };
    let of_old = SourceEdit { of_version: Some(1), ..edit.clone() };
    let refused = edit_source(db, account, id, of_old).await;
    assert!(matches!(refused, Err(StorageError::Stale { .. })), "{refused:?}");
    assert_eq!(list_messages(db, id).await.unwrap().len(), 3, "the turn is still there");
    let edit = SourceEdit { of_version: Some(2), ..edit };
    assert_eq!(edit_source(db, account, id, edit).await.unwrap().token_count, 4);
    assert_eq!(list_messages(db, id).await.unwrap(), [message("user", "Only this.")]);
}

async fn many_workers_never_hold_one_job_at_the_same_time(store: TestStore) {
    let db = &store.db;
    let account = some_account(db).await;
    let face = some_face(db, account).await;
    for _ in 0..4 {
        let source = insert_source(db, document(&face)).await.unwrap();
        event(db, &source, MAKE).await;
    }
    let mut claimed: Vec<SourceId> = Vec::new();
    // A claim that loses a race may come back empty; the job is still there for the next.
    for _ in 0..8 {
        let claims = join_all((0..4).map(|_| claim_job(db, LEASE_MS))).await;
        claimed.extend(claims.into_iter().filter_map(Result::unwrap).map(|job| job.source_id));
    }
    claimed.sort_unstable();
    let all = claimed.len();
    claimed.dedup();
    assert_eq!((claimed.len(), all), (4, 4));
}

async fn a_lease_that_ran_out_goes_to_another_and_the_first_can_write_no_more(store: TestStore) {
    let db = &store.db;
    let account = some_account(db).await;
    let face = some_face(db, account).await;
    let source = insert_source(db, document(&face)).await.unwrap();
    event(db, &source, MAKE).await;
    // A lease in the past stands for one that was not extended in time.
    let first = claim_job(db, -1).await.unwrap().unwrap();
    let second = claim_job(db, LEASE_MS).await.unwrap().unwrap();
    assert_eq!((first.source_id, first.attempts, second.attempts), (second.source_id, 1, 2));
    assert_eq!(extend_lease(db, &first, LEASE_MS).await.unwrap(), None);
    let late = plan_chunks(db, &first, 1, vec!["a".to_owned()]).await;
    assert!(matches!(late, Err(StorageError::Stale { .. })), "{late:?}");
    let chunks = vec!["a".to_owned(), "b".to_owned()];
    plan_chunks(db, &second, 1, chunks.clone()).await.unwrap();
    plan_chunks(db, &second, 1, chunks).await.unwrap();
    let late = finish_chunk(db, &first, 1, 0, "{}".to_owned(), NanoUsd(1)).await;
    assert!(matches!(late, Err(StorageError::Stale { .. })), "{late:?}");
    for _ in 0..2 {
        finish_chunk(db, &second, 1, 0, "{}".to_owned(), NanoUsd(1)).await.unwrap();
    }
    rekey_chunk(db, &second, 1, 1).await.unwrap();
    let open = open_chunks(db, source.id, 1).await.unwrap();
    assert_eq!((open.len(), open[0].content.as_str(), open[0].rekeyed), (1, "b", 1));
    let after = find_source(db, account, source.id).await.unwrap().unwrap();
    assert_eq!((after.chunks_completed, after.chunks_total), (1, 2));
    let late = end_job(db, &first, JobEnd::Fail("no".to_owned())).await;
    assert!(matches!(late, Err(StorageError::Stale { .. })), "{late:?}");
    release_lease(db, &second).await.unwrap();
    let third = claim_job(db, LEASE_MS).await.unwrap().unwrap();
    assert_eq!(third.attempts, 1, "a step forward and a release count as no try");
    retry_job(db, &third, 3_600_000, true).await.unwrap();
    assert_eq!(claim_job(db, LEASE_MS).await.unwrap(), None, "not before its time");
    event(db, &source, MAKE).await;
    assert!(claim_job(db, LEASE_MS).await.unwrap().is_some(), "its owner may be impatient");
}

async fn a_source_that_every_worker_dies_of_is_given_up(store: TestStore) {
    let db = &store.db;
    let account = some_account(db).await;
    let face = some_face(db, account).await;
    let source = insert_source(db, document(&face)).await.unwrap();
    event(db, &source, MAKE).await;
    // A lease in the past stands for a worker that died with it and reported nothing.
    for attempts in 1..=3 {
        let job = claim_job(db, -1).await.unwrap().unwrap();
        assert_eq!((job.attempts, job.is_given_up(3)), (attempts, false));
    }
    // A step forward begins the count anew.
    let job = claim_job(db, LEASE_MS).await.unwrap().unwrap();
    assert!(job.is_given_up(3), "{job:?}");
    plan_chunks(db, &job, 1, vec!["a".to_owned(), "b".to_owned()]).await.unwrap();
    finish_chunk(db, &job, 1, 0, "{}".to_owned(), NanoUsd(1)).await.unwrap();
    retry_job(db, &job, -1, true).await.unwrap();
    for attempts in 2..=3 {
        let job = claim_job(db, -1).await.unwrap().unwrap();
        assert_eq!((job.attempts, job.is_given_up(3)), (attempts, false));
    }
    let job = claim_job(db, LEASE_MS).await.unwrap().unwrap();
    assert!(job.is_given_up(3), "{job:?}");
    end_job(db, &job, JobEnd::Fail("it broke off".to_owned())).await.unwrap();
    let failed = find_source(db, account, source.id).await.unwrap().unwrap();
    assert_eq!((failed.state, failed.chunks_completed), (CompileState::Failed, 1));
    assert_eq!(failed.failure.as_deref(), Some("it broke off"));
    assert_eq!(claim_job(db, -1).await.unwrap(), None, "nobody is given it any more");
    event(db, &source, MAKE).await;
    let again = claim_job(db, LEASE_MS).await.unwrap().unwrap();
    assert_eq!((again.attempts, again.is_given_up(3)), (1, false), "its owner asks again");
}

async fn a_pause_is_seen_by_the_worker_and_can_be_taken_back(store: TestStore) {
    let db = &store.db;
    let account = some_account(db).await;
    let face = some_face(db, account).await;
    let source = insert_source(db, document(&face)).await.unwrap();
    let refused = event(db, &source, CompileEvent::Pause).await;
    assert_eq!(refused, Transition::NotNow(CompileState::Idle));
    event(db, &source, CompileEvent::Start(CompileGoal::Prepare)).await;
    let job = claim_job(db, LEASE_MS).await.unwrap().unwrap();
    event(db, &source, CompileEvent::Pause).await;
    assert!(extend_lease(db, &job, LEASE_MS).await.unwrap().unwrap().pausing);
    event(db, &source, MAKE).await;
    let signal = extend_lease(db, &job, LEASE_MS).await.unwrap().unwrap();
    assert_eq!((signal.pausing, signal.goal), (false, CompileGoal::Make));
    let late = end_job(db, &job, JobEnd::Rest).await.unwrap();
    assert_eq!(late, Transition::NotNow(CompileState::Preparing));
    event(db, &source, CompileEvent::Pause).await;
    end_job(db, &job, JobEnd::Rest).await.unwrap();
    assert_eq!(state(db, &source).await, CompileState::Paused);
    assert_eq!(extend_lease(db, &job, LEASE_MS).await.unwrap(), None, "the job is gone");
    event(db, &source, MAKE).await;
    let job = claim_job(db, LEASE_MS).await.unwrap().unwrap();
    end_job(db, &job, JobEnd::Stall("the provider is away".to_owned())).await.unwrap();
    let stalled = find_source(db, account, source.id).await.unwrap().unwrap();
    assert_eq!(stalled.state, CompileState::Stalled);
    assert_eq!(stalled.failure.as_deref(), Some("the provider is away"));
    event(db, &source, MAKE).await;
    let again = find_source(db, account, source.id).await.unwrap().unwrap();
    assert_eq!((again.state, again.failure), (CompileState::Preparing, None));
}

async fn a_deleted_source_takes_exactly_its_own_primitives_with_it(store: TestStore) {
    let db = &store.db;
    let account = some_account(db).await;
    let face = some_face(db, account).await;
    let (first, job) = ready_to_write(db, &face).await;
    let added = vec![primitive("tea"), primitive("walks")];
    let first_plan = SyncPlan { added, linked: vec![0], ..plan(db, &face).await };
    write_sync(db, &job, first_plan).await.unwrap();
    let (second, job) = ready_to_write(db, &face).await;
    let added = vec![primitive("books")];
    let second_plan = SyncPlan { added, linked: vec![1], ..plan(db, &face).await };
    write_sync(db, &job, second_plan).await.unwrap();
    let shown = |rows: &[(i64, &str, usize)]| {
        rows.iter().map(|(at, text, n)| (*at, (*text).to_owned(), *n)).collect::<Vec<_>>()
    };
    let all = [(0, "imported", 1), (1, "tea", 2), (2, "walks", 1), (3, "books", 1)];
    assert_eq!(texts(db, &face).await, shown(&all));
    let stored = find_face(db, account, &face.username).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.facts.as_str()), (3, r#"{"city":"Ghent"}"#));
    let counts = r#"{"alpha":0,"beta":4,"delta":0,"epsilon":0}"#;
    assert_eq!(stored.component_counts.as_deref(), Some(counts));
    let withdrawal = |source: &SourceRow, face_version, delete| Withdrawal {
        source_id: source.id,
        face_id: face.id,
        face_version,
        face_facts: "{}".to_owned(),
        delete,
    };
    let stale = withdraw_source(db, account, withdrawal(&first, 2, true)).await;
    assert!(matches!(stale, Err(StorageError::Stale { what: "face" })), "{stale:?}");
    withdraw_source(db, account, withdrawal(&first, 3, true)).await.unwrap();
    let rest = [(0, "imported", 0), (1, "tea", 1), (3, "books", 1)];
    assert_eq!(texts(db, &face).await, shown(&rest));
    assert_eq!(find_source(db, account, first.id).await.unwrap(), None);
    let reset = withdraw_source(db, account, withdrawal(&second, 4, false)).await.unwrap().unwrap();
    assert_eq!((reset.state, reset.generation, reset.counts), (CompileState::Idle, 2, None));
    assert_eq!(reset.content, second.content);
    assert_eq!(texts(db, &face).await, shown(&[(0, "imported", 0)]));
}

async fn a_face_takes_its_sources_and_their_jobs_with_it(store: TestStore) {
    let db = &store.db;
    let account = some_account(db).await;
    let face = some_face(db, account).await;
    let (source, job) = ready_to_write(db, &face).await;
    let added = vec![primitive("tea")];
    write_sync(db, &job, SyncPlan { added, ..plan(db, &face).await }).await.unwrap();
    let running = insert_source(db, document(&face)).await.unwrap();
    event(db, &running, MAKE).await;
    assert!(delete_face(db, account, &face.username).await.unwrap());
    assert_eq!(find_source(db, account, source.id).await.unwrap(), None);
    assert_eq!(claim_job(db, LEASE_MS).await.unwrap(), None);
}

async fn a_version_is_charged_once_and_a_quota_holds(store: TestStore) {
    let db = &store.db;
    let account = some_account(db).await;
    let face = some_face(db, account).await;
    let quota = Quota { period_start: UnixMicros(5), tokens_limit: Some(150) };
    let (first, job) = ready_to_write(db, &face).await;
    let with_quota = |plan: SyncPlan| SyncPlan { quota, ..plan };
    let written = write_sync(db, &job, with_quota(plan(db, &face).await)).await.unwrap();
    assert!(matches!(written, SyncVerdict::Written(_, 100)), "{written:?}");
    let reset = Withdrawal {
        source_id: first.id,
        face_id: face.id,
        face_version: plan(db, &face).await.face_version,
        face_facts: "{}".to_owned(),
        delete: false,
    };
    withdraw_source(db, account, reset).await.unwrap();
    event(db, &first, MAKE).await;
    let job = claim_job(db, LEASE_MS).await.unwrap().unwrap();
    end_job(db, &job, JobEnd::ChunksDone).await.unwrap();
    let again = write_sync(db, &job, with_quota(plan(db, &face).await)).await.unwrap();
    assert!(matches!(again, SyncVerdict::Written(_, 0)), "the same text: {again:?}");

    let (_, job) = ready_to_write(db, &face).await;
    let spent = write_sync(db, &job, with_quota(plan(db, &face).await)).await.unwrap();
    assert_eq!(spent, SyncVerdict::QuotaSpent { tokens_used: 100 });
    assert_eq!(read_quota(db, account, UnixMicros(5)).await.unwrap(), 100);
    set_overflow(db, account, true).await.unwrap();
    let beyond = write_sync(db, &job, with_quota(plan(db, &face).await)).await.unwrap();
    let SyncVerdict::Written(source, 100) = beyond else { panic!("{beyond:?}") };
    assert!(source.overflow_billed);
    assert_eq!(read_quota(db, account, UnixMicros(5)).await.unwrap(), 200);
    assert_eq!(read_quota(db, account, UnixMicros(6)).await.unwrap(), 0);
    let faces = read_face_quotas(db, account, UnixMicros(5), 10).await.unwrap();
    assert_eq!((faces.len(), faces[0].tokens_in_face), (1, 200));
    assert_eq!((faces[0].tokens_period, faces[0].tokens_alltime), (200, 200));
}

on_both_databases! {
    a_source_is_read_as_it_was_written_and_by_its_owner_only,
    lists_are_paged_and_filtered_and_leave_the_texts_out,
    another_text_drops_what_was_extracted_and_another_label_does_not,
    a_thread_keeps_its_messages_in_order_and_loses_no_turn,
    many_workers_never_hold_one_job_at_the_same_time,
    a_lease_that_ran_out_goes_to_another_and_the_first_can_write_no_more,
    a_source_that_every_worker_dies_of_is_given_up,
    a_pause_is_seen_by_the_worker_and_can_be_taken_back,
    a_deleted_source_takes_exactly_its_own_primitives_with_it,
    a_face_takes_its_sources_and_their_jobs_with_it,
    a_version_is_charged_once_and_a_quota_holds,
}
