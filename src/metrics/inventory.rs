//! The inventory: numbers that are the same for every isolate.

use prometheus::{Error, IntGauge, IntGaugeVec, Opts, Registry};

/// Declares gauges: for each its field and help.
macro_rules! inventory {
    (all { $($all:ident, $help:literal;)* } of { $($of:ident, $help_of:literal;)* }) => {
        /// The numbers of the whole store.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct All {
            $(#[doc = $help] pub $all: u64,)*
        }

        /// The numbers of one repository.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Of {
            $(#[doc = $help_of] pub $of: u64,)*
        }

        /// The gauges of the inventory.
        #[derive(Debug)]
        pub struct InventoryMetrics {
            $($all: IntGauge,)*
            repositories: Repositories,
        }

        #[derive(Debug)]
        struct Repositories {
            $($of: IntGaugeVec,)*
        }

        impl InventoryMetrics {
            /// Makes the gauges, and enters them into a registry.
            pub(super) fn enter(registry: &Registry) -> Result<Self, Error> {
                let gauge = |what: &str, help| {
                    let options = options(&format!("strata_inventory_{what}"), help);
                    let gauge = IntGauge::with_opts(options)?;
                    registry.register(Box::new(gauge.clone()))?;
                    Ok::<_, Error>(gauge)
                };
                let gauges = |what: &str, help| {
                    let options = options(&format!("strata_repository_{what}"), help);
                    let gauges = IntGaugeVec::new(options, &["repository"])?;
                    registry.register(Box::new(gauges.clone()))?;
                    Ok::<_, Error>(gauges)
                };
                Ok(Self {
                    $($all: gauge(stringify!($all), $help)?,)*
                    repositories: Repositories {
                        $($of: gauges(stringify!($of), $help_of)?,)*
                    },
                })
            }

            /// Shows the numbers of the whole store, and removes those of all repositories.
            pub fn show(&self, all: All) {
                $(self.$all.set(all.$all.try_into().unwrap_or(i64::MAX));)*
                $(self.repositories.$of.reset();)*
            }

            /// Shows the numbers of one repository, by its name.
            pub fn show_of(&self, repository: &str, of: Of) {
                $({
                    let gauge = self.repositories.$of.with_label_values(&[repository]);
                    gauge.set(of.$of.try_into().unwrap_or(i64::MAX));
                })*
            }
        }
    };
}

inventory! {
    all {
    began_seconds, "Start of the sweep's round that counted, in seconds since the Unix epoch";
    blobs, "Blobs";
    bytes, "Bytes of blobs, each blob once";
    undivided_bytes, "Bytes of blobs, each blob once for each manifest that references it: the size without deduplication";
    manifests, "Manifests";
    tags, "Tags";
    uploads, "Uploads in progress, or abandoned and not yet swept";
    extent_bytes, "Bytes of extents, of blobs and of uploads";
    }
    of {
    blobs, "Blobs of a repository";
    bytes, "Bytes of blobs of a repository, each blob once";
    undivided_bytes, "Bytes of blobs of a repository, each blob once for each manifest that references it";
    manifests, "Manifests of a repository";
    tags, "Tags of a repository";
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(
        name,
        format!("{help}; counted by the last round of the sweep."),
    )
}
