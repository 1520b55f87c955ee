/* Reading certificates and keys; see x509.h. */
#include "crypto/x509.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

static int fail(struct err *err, const char *what)
{
    unsigned long code = ERR_peek_last_error();
    ERR_clear_error();
    const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);
    return err_set(err, ERR_INVALID, "%s: %s", what, reason == NULL ? "it does not parse" : reason);
}

/* A key with a passphrase is an error, not a prompt on the terminal. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    return -1;
}

static int read_time(const ASN1_TIME *from, int64_t *out)
{
    struct tm tm;
    if (from == NULL || ASN1_TIME_to_tm(from, &tm) != 1) {
        return -1;
    }
    *out = (int64_t)timegm(&tm);
    return 0;
}

static void take_bio(BIO *bio, struct buf *out)
{
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);
    if (len > 0) {
        buf_append(out, data, (size_t)len);
    }
}

/* A name that holds a line break or NUL could pass for another one; it is left out. */
static void add_name(struct buf *out, const char *kind, const ASN1_IA5STRING *text)
{
    const unsigned char *data = ASN1_STRING_get0_data(text);
    size_t len = (size_t)ASN1_STRING_length(text);
    for (size_t i = 0; i < len; i++) {
        if (data[i] < 0x20 || data[i] == 0x7f) {
            return;
        }
    }
    buf_append(out, kind, strlen(kind));
    buf_append(out, data, len);
    buf_append_byte(out, '\n');
}

static void read_names(const X509 *cert, struct buf *out)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_DNS) {
            add_name(out, "DNS:", name->d.dNSName);
        } else if (name->type == GEN_URI) {
            add_name(out, "URI:", name->d.uniformResourceIdentifier);
        }
    }
    GENERAL_NAMES_free(names);
}

static int read_facts(const X509 *cert, struct x509_facts *facts, struct err *err)
{
    if (read_time(X509_get0_notBefore(cert), &facts->not_before) != 0 ||
        read_time(X509_get0_notAfter(cert), &facts->not_after) != 0) {
        return err_set(err, ERR_INVALID, "certificate 1: its times do not parse");
    }
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio == NULL || X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253) < 0) {
        BIO_free(bio);
        return fail(err, "certificate 1: its subject");
    }
    take_bio(bio, &facts->subject);
    BIO_free(bio);
    read_names(cert, &facts->names);
    return 0;
}

void x509_facts_deinit(struct x509_facts *facts)
{
    buf_deinit(&facts->subject);
    buf_deinit(&facts->names);
}

int x509_read(const char *pem, struct x509_facts *facts, struct err *err)
{
    *facts = (struct x509_facts){.count = 0};
    buf_init(&facts->subject);
    buf_init(&facts->names);
    BIO *bio = BIO_new_mem_buf(pem, -1);
    int status = 0;
    while (status == 0) {
        ERR_clear_error();
        X509 *cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
        if (cert == NULL) {
            if (facts->count > 0 && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE) {
                break; /* the end */
            }
            char what[40];
            (void)snprintf(what, sizeof(what), "certificate %zu", facts->count + 1);
            status = fail(err, what);
            break;
        }
        facts->count++;
        if (facts->count == 1) {
            status = read_facts(cert, facts, err);
        }
        X509_free(cert);
    }
    ERR_clear_error();
    BIO_free(bio);
    return status;
}

int x509_check_pair(const char *cert_pem, const char *key_pem, struct err *err)
{
    ERR_clear_error();
    BIO *cert_bio = BIO_new_mem_buf(cert_pem, -1);
    BIO *key_bio = BIO_new_mem_buf(key_pem, -1);
    X509 *cert = PEM_read_bio_X509(cert_bio, NULL, no_passphrase, NULL);
    EVP_PKEY *key = NULL;
    int status = 0;
    if (cert == NULL) {
        status = fail(err, "certificate 1");
        goto out;
    }
    key = PEM_read_bio_PrivateKey(key_bio, NULL, no_passphrase, NULL);
    if (key == NULL) {
        status = fail(err, "the private key");
        goto out;
    }
    if (X509_check_private_key(cert, key) != 1) {
        ERR_clear_error();
        status = err_set(err, ERR_INVALID, "the private key is not the one of the certificate");
    }
out:
    EVP_PKEY_free(key);
    X509_free(cert);
    BIO_free(cert_bio);
    BIO_free(key_bio);
    return status;
}
