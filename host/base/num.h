/* Checked integer parsing. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool num_parse_i64(const char *text, size_t len, int64_t *out); /* whole text, decimal, optional '-' */
bool num_parse_u64(const char *text, size_t len, uint64_t *out);
