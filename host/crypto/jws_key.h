/* Inside of crypto/jws*.c: a set of keys. */
#pragma once

#include <stdbool.h>

#include <cjose/cjose.h>

#include "crypto/jws.h"

struct jws_key {
    cjose_jwk_t *jwk;
    char *kid;     /* NULL: none */
    unsigned algs; /* bits of enum jws_alg it may verify: its family, narrowed by `alg` */
    bool is_private;
};

struct jws_keys {
    struct jws_key list[JWS_KEYS_MAX];
    size_t count;
};

const char *jws_alg_name(enum jws_alg alg);
