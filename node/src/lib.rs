//! One process: listeners, the journey of a request, admin, start and drain.
