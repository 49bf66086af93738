//! The node's long-lived parts: brains, which are plain structs that take the time and chance as arguments and return
//! decisions, and the supervised bodies around them. The request path reads what they publish and never waits for them.
//!
//! ```text
//! keeper                    a task that the node's startup owns: starts the root, and starts it again
//! └ root
//!   ├ cluster               where there is a `[cluster]`: one duty for each thing that is done for it, all the time
//!   │ ├ certificate         gets one by a token, and renews it
//!   │ ├ door                lets peers in
//!   │ ├ links               dials peers
//!   │ ├ seeds               looks for nodes that are not known
//!   │ ├ membership          gossips
//!   │ ├ course              follows what gossip brings
//!   │ └ news                tells what has changed about this node
//!   ├ limits
//!   │ ├ shard:00            eviction and reclaim of one part of the limits' keys
//!   │ └ … shard:63
//!   └ services              its list follows the configuration
//!     ├ shop                one supervisor for each service
//!     │ ├ service           health, outliers, breaker, discovery and balance of that service
//!     │ └ pool:10.0.0.1:80  connections to one endpoint; the service adds and removes them
//!     └ …
//! ```
//!
//! Everything restarts one for one: whatever fails is started again alone, with all that is below it, and nobody beside it
//! notices. That is possible because actors share only what outlives them: cells, loads and snapshots belong to the node,
//! and who starts again adopts them. The other strategies of `supervisor.rs` are for children that hold what
//! another child's life made; whoever adds such a child says so in its branch's policy.
//!
//! An id such as `root/services/shop/pool:10.0.0.1:80` is a place, not a life (`inspect.rs`). Messages are sent to places
//! (`handles.rs`), supervisors list places (`supervisor/branch.rs`), operators look at places. Who lives there is the
//! business of the shell (`body/actor.rs`), and nothing else knows ractor but the supervisor's body and the keeper.

pub mod body;
pub mod duty;
pub mod handles;
pub mod inspect;
pub mod keeper;
pub mod limiter;
pub mod pool;
pub mod service;
pub mod supervisor;
