//! The table of settings: for each its name, allowed values, default and meaning.

use crate::{
    ledger::Ledger,
    settings::{
        log::LogScope,
        setting::{Choice, Json, Number, OriginUrl, Setting, SettingRow, Unset},
    },
    store::{LARGEST_WRITE, policy::TierPolicy},
};

/// A section of the documents.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) title: &'static str,
    /// The introduction to its settings.
    pub(super) about: &'static str,
    pub(super) rows: Vec<SettingRow>,
}

/// Declares the table. The meaning of a setting is the documentation of its constant, too.
macro_rules! settings {
    ($($title:literal, $about:literal {
        $($name:ident: $type:ty = $allowed:expr, $default:expr, $meaning:literal;)*
    })*) => {
        $($(
            #[doc = $meaning]
            pub(super) const $name: $type = Setting {
                name: stringify!($name),
                allowed: $allowed,
                default: $default,
            };
        )*)*

        /// The settings for the documents.
        pub(super) fn groups() -> Vec<Group> {
            vec![$(Group {
                title: $title,
                about: $about,
                rows: vec![$($name.row($meaning),)*],
            },)*]
        }
    };
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const DAY: u64 = 86_400;

settings! {
    "Access", "[access.md](access.md) describes users, rules and tokens.\nWithout `STRATA_USERS` the registry denies every pull and push, unless a rule is for everyone." {
        STRATA_USERS: Setting<Json, Unset> = secret("JSON, written by `npm run user`: [users](access.md#users)"), Unset("none"),
            "The users, with hashes of their passwords and tokens.";
        STRATA_RULES: Setting<Json, Unset> = list("a list of [rules](access.md#rules)"), Unset("users may do everything"),
            "The permissions of users and groups in repositories.";
        STRATA_ANONYMOUS_PULL: Setting<Choice<bool>> = BOOL, false,
            "Whether a last rule lets everyone pull every repository; the rules of `STRATA_RULES` take precedence.";
        STRATA_ORIGIN: Setting<OriginUrl, Unset> = OriginUrl, Unset("the origin of the request"),
            "The origin at which clients reach the registry, if a proxy changes the scheme or the host. Tokens are issued for its host, and requests from pages of other origins are refused.";
    }
    "Mirroring", "[mirror.md](mirror.md) describes pull-through mirrors of other registries." {
        STRATA_UPSTREAMS: Setting<Json, Unset> = list("a list of [upstreams](mirror.md#settings)"), Unset("none"),
            "The upstream registries that are mirrored.";
        STRATA_UPSTREAM_CREDENTIALS: Setting<Json, Unset> = secret("JSON, as `{\"<name>\": {\"user\": \"…\", \"password\": \"…\"}}`"), Unset("none"),
            "The credentials for signing in to upstreams, by the names of the upstreams.";
    }
    "Requests and uploads", "These are limits of an isolate and of a request; [limits.md](limits.md) lists all others." {
        STRATA_UPLOADS: Setting<Number<u32>> = Number::range(1, 10_000), 64,
            "The most request bodies that an isolate receives at a time from one user, or from one address without credentials.";
        STRATA_BODY_BYTES: Setting<Number<u64>> = Number::range(8 * MIB, 5_000_000_000).of("bytes"), 95_000_000,
            "The largest chunk that clients are told to send, in `OCI-Chunk-Max-Length`. Set it 5 % below the plan's limit of request bodies: 190000000 on Business, 475000000 on Enterprise. It does not raise that limit.";
        STRATA_SPARSE_INDEXES: Setting<Choice<bool>> = BOOL, false,
            "Whether an index may list manifests that the repository lacks, such as those of other platforms. Up to 300 may be absent; the response to the push names the first 20 in `Warning` headers.";
        STRATA_SUBREQUESTS: Setting<Number<u32>> = Number::at_least(50), 10_000,
            "The most subrequests (calls to R2, KV and other servers) that the platform's plan allows one request: 50 on the free plan, 10,000 on the paid one.";
    }
    "Sweep and retention", "[sweep.md](sweep.md) describes the garbage collection of unreferenced objects." {
        STRATA_GRACE_HOURS: Setting<Number<u64>> = Number::range(1, 8_760).of("hours"), 24,
            "The grace period, for which an unreferenced object is kept; a push that takes longer than half of it fails.";
        STRATA_GRACE_SECONDS: Setting<Number<u64>, Unset> = Number::range(4, 365 * DAY).of("seconds"), Unset("`STRATA_GRACE_HOURS`"),
            "The grace period in seconds, to try the sweep out; it takes precedence over `STRATA_GRACE_HOURS`.";
        STRATA_JOIN_BYTES: Setting<Number<u64>> = Number::range(0, LARGEST_WRITE).of("bytes"), LARGEST_WRITE,
            "The largest blob of several extents that the sweep [joins](sweep.md#joining) into one object; with 0 it joins none.";
        STRATA_RETENTION: Setting<Json, Unset> = list("a list of [policies](sweep.md#retention)"), Unset("everything stays"),
            "The policies by which tags and manifests expire, and by which tags are immutable.";
    }
    "Scrub", "[sweep.md](sweep.md#the-scrub) describes how stored objects are verified." {
        STRATA_SCRUB_DAYS: Setting<Number<u32>> = Number::range(0, 365).of("days"), 30,
            "The number of days in which the scrub reads and verifies every stored object once. With 0 it runs on demand only.";
    }
    "Tiers", "Hot objects live in the memory of an isolate, warm ones in Workers KV, everything in R2.\nAn isolate has 128 MiB of memory." {
        STRATA_HOT_BYTES: Setting<Number<u64>> = Number::range(0, Ledger::CACHE).of("bytes").because("uploads need the rest of an isolate's memory"), 32 * MIB,
            "The most memory of an isolate for hot objects. They [give way](limits.md#memory) to uploads and other work. With 0 nothing is hot.";
        STRATA_HOT_BLOB_BYTES: Setting<Number<u64>> = Number::range(0, 12 * MIB).of("bytes"), MIB,
            "The largest blob that is kept hot; no object larger than an eighth of `STRATA_HOT_BYTES` is.";
        STRATA_HOT_SECONDS: Setting<Number<u64>> = Number::range(1, DAY).of("seconds"), 3_600,
            "The TTL of hot objects; manifests expire after `STRATA_STALE_SECONDS` if that is shorter.";
        STRATA_WARM_BLOB_BYTES: Setting<Number<u64>> = Number::range(0, TierPolicy::MAX_WARM).of("bytes"), MIB,
            "The largest blob that is written to KV; such a blob is read into memory whole.";
        STRATA_WARM_SECONDS: Setting<Number<u64>> = Number::range(TierPolicy::MIN_WARM.as_secs(), 365 * DAY).of("seconds").or_zero(), DAY,
            "The TTL of warm objects; manifests expire after `STRATA_STALE_SECONDS` if that is shorter. With 0 KV is not used.";
        STRATA_NEAR_SECONDS: Setting<Number<u64>> = Number::range(60, 365 * DAY).of("seconds").or_zero(), DAY,
            "The TTL of large blobs and of blocks of them in the cache of a location. With 0 it is not used; it has no effect but on a domain of one's own.";
        STRATA_WARM_READS: Setting<Number<u32>> = READS, 3,
            "The number of recent reads after which an object is promoted to KV.";
        STRATA_WARM_SPAN_READS: Setting<Number<u32>> = READS, 1,
            "The number of recent reads after which a decompressed span of a layer is promoted to KV.";
        STRATA_WARM_HEDGE_MS: Setting<Number<u64>> = Number::range(1, 30_000).of("milliseconds"), 25,
            "How long KV has for its answer before R2 is asked beside it; the first value counts. The cache of a location has as long before R2 is asked.";
        STRATA_WARM_PATIENCE_MS: Setting<Number<u64>> = Number::range(10, 30_000).of("milliseconds"), 1_000,
            "The timeout of a read from KV, which counts if R2 fails.";
        STRATA_WARM_COMPRESSION: Setting<Choice<bool>> = BOOL, true,
            "Whether values in KV are compressed, if that makes them smaller by a tenth.";
        STRATA_HALF_LIFE_SECONDS: Setting<Number<u64>> = Number::range(1, DAY).of("seconds"), 600,
            "The time after which the count of recent reads of an object halves.";
        STRATA_STALE_SECONDS: Setting<Number<u64>> = Number::range(1, DAY).of("seconds"), 3_600,
            "How long an isolate may go on answering for a manifest or a blob that another isolate has deleted.";
        STRATA_ABSENT_SECONDS: Setting<Number<u64>> = Number::range(0, 60).of("seconds"), 5,
            "How long \"not found\" is cached for callers without the push permission.";
        STRATA_TAG_SECONDS: Setting<Number<u64>> = Number::range(0, 3_600).of("seconds"), 0,
            "How long an isolate believes a tag, for callers that can't push, move or delete it, nor administer the repository. With 0 each pull by tag reads R2 once.";
    }
    "Layers", "[extension.md](extension.md) describes how files are read from layers, [layer-index.md](layer-index.md) the index of a layer." {
        STRATA_SPAN_BYTES: Setting<Number<u64>> = Number::range(64 * KIB, 4 * MIB), MIB,
            "The approximate number of bytes that are decompressed to read one byte of a layer.";
        STRATA_INDEX_STEP_BYTES: Setting<Number<u64>> = Number::range(MIB, TIB), 512 * MIB,
            "The number of bytes that one request decompresses to index a layer; the next request or the cron trigger resumes.";
        STRATA_INDEX_ENTRIES: Setting<Number<u64>> = Number::range(1, 10_000_000), 2_000_000,
            "The most entries of a layer that is indexed.";
        STRATA_INFLATED_BYTES: Setting<Number<u64>> = Number::range(MIB, TIB), 64 * GIB,
            "The most bytes that an indexed layer may decompress to.";
        STRATA_INFLATED_RATIO: Setting<Number<u64>> = Number::range(2, 10_000), 250,
            "The highest compression ratio of an indexed layer that decompresses to more than 64 MiB.";
        STRATA_INDEX_ON_PUSH: Setting<Choice<bool>> = BOOL, false,
            "Whether layers are indexed when an image is pushed, and not only when a file of it is first read.";
    }
    "Log", "[access.md](access.md#audit-log) describes the audit, which is always written." {
        STRATA_LOG: Setting<Choice<LogScope>> = Choice(&[LogScope::Requests, LogScope::Errors]), LogScope::Requests,
            "Whether the log has a line for each request, or failures only.";
    }
}

const BOOL: Choice<bool> = Choice(&[true, false]);
const READS: Number<u32> = Number::range(1, 255).of("reads");

const fn secret(form: &'static str) -> Json {
    Json {
        form,
        is_secret: true,
    }
}

const fn list(form: &'static str) -> Json {
    Json {
        form,
        is_secret: false,
    }
}
