-- migrate: concurrently
-- Entries of the runs that ended before, and the indexes they are found by: one for all terms at once, one for times, and where
-- the extension pg_trgm is there one for pieces of ids and one for pieces of words, when there are many. They replace four indexes of runs,
-- of which that of all searched texts took most of what a run writes when it ends. Planes of the version before find lists
-- by text, tag and scenario slowly from here on.

call list_past_runs();

create index concurrently if not exists run_entries_terms_idx on run_entries using gin (terms);
create index concurrently if not exists run_entries_created_at_idx on run_entries (tenant, created_at);
create index concurrently if not exists run_entries_id_idx on run_entries using gin ((run_id::text) gin_trgm_ops);
create index concurrently if not exists run_words_word_idx on run_words using gin (word gin_trgm_ops);

analyze run_entries;
analyze run_words;

drop index concurrently if exists runs_ended_terms_idx;
drop index concurrently if exists runs_ended_search_idx;
drop index concurrently if exists runs_ended_scenario_ref_idx;
drop index concurrently if exists runs_ended_source_ref_idx;
