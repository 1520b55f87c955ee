-- What a run can be looked for by exactly, as words of one index: it finds the runs that have several of them without
-- looking at those that have only some. Texts of any length become short. Statistics of the words tell the planner how
-- often they occur. Locks nothing; the next file builds the index and collects the statistics.

-- A null asks for, and gives, nothing. Used for runs and for what is asked: both make the same words. Not in the language
-- SQL, of which each statement that ends a run would make a plan.
create function run_terms(given_tenant text, given_tags jsonb, given_status text, given_environment text, given_mode text)
returns text[] language plpgsql immutable parallel safe cost 1000 as $$
declare
  terms text[] := array_remove(array[given_tenant || '/status/' || given_status,
    given_tenant || '/environment/' || given_environment, given_tenant || '/mode/' || given_mode], null);
begin
  if jsonb_typeof(given_tags) = 'array' then
    for i in 0 .. jsonb_array_length(given_tags) - 1 loop
      if jsonb_typeof(given_tags -> i) = 'string' then
        terms := terms || (given_tenant || '/tag/' || (given_tags ->> i));
      end if;
    end loop;
  end if;
  for i in 1 .. cardinality(terms) loop
    if octet_length(terms[i]) > 250 then
      terms[i] := md5(terms[i]);
    end if;
  end loop;
  return terms;
end
$$;

create statistics if not exists runs_terms_stats on run_terms(tenant, tags, status, environment,
  coalesce(metadata ->> 'modeName', metadata #>> '{executionRequest,session,modeName}')) from runs;
