-- migrate: concurrently
-- Runs of a mode are found by runs_ended_terms_idx: a session writes one index less. Planes of the version before find them
-- slowly from here on.

drop index concurrently if exists runtime_sessions_mode_name_idx;
