-- What lists look for within texts, tags and scenarios, beside the runs: a run's row is long, and those that match are far
-- apart. A run that ends gets an entry: what it can be looked for by exactly, as numbers (terms), and of its events how many
-- of each type there are and when they begin and end. Texts that are searched are kept once each (run_words): a search looks
-- through them, not through the runs. Triggers keep entries true whoever writes runs, planes of the version before, too, at
-- the end of the transaction, when all events of the run are there. Locks runs for a moment; the next file fills the tables.

create table run_entries (
  tenant      text        not null,
  run_id      uuid        not null,
  created_at  timestamptz not null,
  updated_at  timestamptz not null,
  first_at    timestamptz,          -- of the events up to `seq`
  last_at     timestamptz,
  seq         bigint,
  is_sandbox  boolean     not null,
  is_archived boolean     not null,
  terms       bigint[]    not null, -- of run_term
  types       text[],               -- of the events, and how many there are of each; null: not known, the events tell
  counts      integer[],
  primary key (tenant, run_id)
) with (fillfactor = 90, autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);

-- A word may be there twice, when two transactions met it first: nobody waits for anybody. Words stay when their runs go.
create table run_words (
  tenant text   not null,
  kind   text   not null,   -- scenario, source, environment, policy, tag; tags: all of them, when one is no text
  term   bigint not null,
  word   text   not null    -- a tag as it is written within the JSON of tags
);
create index run_words_term_idx on run_words (tenant, term);

-- The number of a word. Who asks by it asks for the tenant, too.
create function run_term(given_tenant text, given_kind text, given_word text) returns bigint
language sql immutable parallel safe as $$
  select ('x' || left(md5(given_tenant || '/' || given_kind || '/' || given_word), 16))::bit(64)::bigint
$$;

-- The texts that a run is searched by, and its other terms, of which no word is kept.
create function run_vocabulary(run runs) returns table (kind text, word text, is_searched boolean)
language sql immutable parallel safe as $$
  select v.kind, v.word, v.is_searched
  from (values ('status', run.status, false),
    ('mode', coalesce(run.metadata ->> 'modeName', run.metadata #>> '{executionRequest,session,modeName}'), false),
    ('scenario', run.scenario_ref, true), ('source', run.source_ref, true), ('environment', run.environment, true),
    ('policy', run.metadata #>> '{executionRequest,session,policyVersion}', true)) v (kind, word, is_searched)
  where v.word is not null
  union
  select case when jsonb_typeof(t.tag) = 'string' then 'tag' else 'tags' end,
    case when jsonb_typeof(t.tag) = 'string' then substr(t.tag::text, 2, length(t.tag::text) - 2) else run.tags::text end,
    true
  from jsonb_array_elements(case when jsonb_typeof(run.tags) = 'array' then run.tags
    else jsonb_build_array(run.tags) end) t (tag)
$$;

-- Writes the entry of a run anew, and what of its words is not known. Its events are counted from where they were counted
-- last; for the first time only when they are not very many.
create function list_run(run runs) returns void language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
  at_once constant bigint := 20000;
  all_terms bigint[];
  is_new boolean;
  known_types text[];
  known_counts integer[];
  first_event timestamptz;
  last_event timestamptz;
  last_seq bigint;
begin
  -- run_words_term_idx
  select array_agg(distinct w.number), bool_or(w.is_searched and (
    select true from run_words k where k.tenant = run.tenant and k.term = w.number limit 1) is null)
  into all_terms, is_new
  from (select v.is_searched, run_term(run.tenant, v.kind, v.word) as number from run_vocabulary(run) v offset 0) w;
  if is_new then
    insert into run_words (tenant, kind, term, word)
    select run.tenant, v.kind, run_term(run.tenant, v.kind, v.word), v.word from run_vocabulary(run) v
    where v.is_searched and not exists (
      select from run_words k where k.tenant = run.tenant and k.term = run_term(run.tenant, v.kind, v.word));
  end if;
  -- run_entries_pkey
  select e.seq, e.types, e.counts, e.first_at, e.last_at
  into last_seq, known_types, known_counts, first_event, last_event
  from run_entries e where e.tenant = run.tenant and e.run_id = run.id;
  if last_seq is not null or run.last_event_seq <= at_once then
    -- run_events_canonical_pkey
    select max(t.seq), array_agg(t.type), array_agg(t.n), min(t.first_at), max(t.last_at)
    into last_seq, known_types, known_counts, first_event, last_event
    from (
      select p.type, sum(p.n)::integer as n, min(p.first_at) as first_at, max(p.last_at) as last_at, max(p.seq) as seq
      from (
        select k.type, k.n::bigint as n, first_event as first_at, last_event as last_at, last_seq as seq
        from unnest(known_types, known_counts) k (type, n)
        union all
        select c.type, count(*), min(c.ts), max(c.ts), max(c.seq) from run_events_canonical c
        where c.tenant = run.tenant and c.run_id = run.id and c.seq > coalesce(last_seq, 0) group by c.type
      ) p group by p.type
    ) t;
  end if;
  insert into run_entries (tenant, run_id, created_at, updated_at, first_at, last_at, seq, is_sandbox, is_archived, terms,
    types, counts)
  values (run.tenant, run.id, run.created_at, run.updated_at, first_event, last_event, last_seq, run.mode = 'sandbox',
    run.archived_at is not null, all_terms, known_types, known_counts)
  on conflict (tenant, run_id) do update set created_at = excluded.created_at, updated_at = excluded.updated_at,
    first_at = excluded.first_at, last_at = excluded.last_at, seq = excluded.seq, is_sandbox = excluded.is_sandbox,
    is_archived = excluded.is_archived, terms = excluded.terms, types = excluded.types, counts = excluded.counts;
end
$$;

create function runs_list() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    delete from run_entries where tenant = old.tenant and run_id = old.id;
  elsif new.ended_at is null then
    delete from run_entries where tenant = new.tenant and run_id = new.id;
  else
    perform list_run(new);
  end if;
  return null;
end
$$;

create constraint trigger runs_list_insert after insert on runs deferrable initially deferred for each row
  when (new.ended_at is not null) execute function runs_list();
create constraint trigger runs_list_update after update on runs deferrable initially deferred for each row
  when ((new.ended_at is not null or old.ended_at is not null) and (old.ended_at is null or new.ended_at is null
    or old.last_event_seq <> new.last_event_seq or old.status <> new.status or old.mode <> new.mode
    or old.updated_at <> new.updated_at or old.created_at <> new.created_at
    or row(old.tags, old.metadata, old.environment, old.scenario_ref, old.source_ref, old.archived_at) is distinct from
      row(new.tags, new.metadata, new.environment, new.scenario_ref, new.source_ref, new.archived_at)))
  execute function runs_list();
create constraint trigger runs_list_delete after delete on runs deferrable initially deferred for each row
  when (old.ended_at is not null) execute function runs_list();

-- The runs that ended before there were entries, in the order in which they and their events are stored, some thousands per
-- transaction, in which nobody else changes them. What has an entry keeps it.
create procedure list_past_runs() language plpgsql as $$
declare
  at_tenant text := '';
  at_time timestamptz := '-infinity';
  at_id uuid := '00000000-0000-0000-0000-000000000000';
  tenants text[];
  times timestamptz[];
  ids uuid[];
begin
  loop
    -- runs_ended_created_at_idx
    select array_agg(held.tenant), array_agg(held.created_at), array_agg(held.id) into tenants, times, ids
    from (
      select r.tenant, r.created_at, r.id from runs r
      where (r.tenant, r.created_at, r.id) > (at_tenant, at_time, at_id) and r.ended_at is not null
      order by r.tenant, r.created_at, r.id limit 2000 for no key update
    ) held;
    exit when ids is null;
    -- runs_pkey, run_entries_pkey
    with held as materialized (
      select r.run from unnest(tenants, ids) h (tenant, id)
      cross join lateral (select k as run from runs k where k.tenant = h.tenant and k.id = h.id offset 0) r
      where (select true from run_entries e where e.tenant = h.tenant and e.run_id = h.id) is null
    ), vocabulary as materialized (
      select (h.run).tenant, (h.run).id, v.kind, v.word, v.is_searched,
        run_term((h.run).tenant, v.kind, v.word) as term
      from held h cross join lateral run_vocabulary(h.run) v
    ), fresh as (
      insert into run_words (tenant, kind, term, word)
      select distinct v.tenant, v.kind, v.term, v.word from vocabulary v
      where v.is_searched and not exists (select from run_words k where k.tenant = v.tenant and k.term = v.term)
    )
    -- run_events_canonical_pkey
    insert into run_entries (tenant, run_id, created_at, updated_at, first_at, last_at, seq, is_sandbox, is_archived,
      terms, types, counts)
    select (h.run).tenant, (h.run).id, (h.run).created_at, (h.run).updated_at, e.first_at, e.last_at, e.seq,
      (h.run).mode = 'sandbox', (h.run).archived_at is not null, t.terms, e.types, e.counts
    from held h
    join (select v.id, array_agg(distinct v.term) as terms from vocabulary v group by v.id) t on t.id = (h.run).id
    cross join lateral (
      select max(g.seq) as seq, array_agg(g.type) as types, array_agg(g.n) as counts, min(g.first_at) as first_at,
        max(g.last_at) as last_at
      from (
        select c.type, count(*)::integer as n, min(c.ts) as first_at, max(c.ts) as last_at, max(c.seq) as seq
        from run_events_canonical c
        where c.tenant = (h.run).tenant and c.run_id = (h.run).id and (h.run).last_event_seq <= 20000 group by c.type
      ) g
    ) e;
    at_tenant := tenants[cardinality(tenants)];
    at_time := times[cardinality(times)];
    at_id := ids[cardinality(ids)];
    commit;
  end loop;
end
$$;
