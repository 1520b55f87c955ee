/* Intrusive doubly linked list; a node belongs to at most one list. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev;
    struct list *next;
};

/* NOLINTBEGIN(bugprone-macro-parentheses): types, members and declared names cannot stand in parentheses. */
#define list_entry(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))
#define list_each(node, head) for (struct list *node = (head)->next; node != (head); node = node->next)
/* As list_each, and the body may remove node. */
#define list_each_safe(node, head)                                                                           \
    for (struct list *node = (head)->next, *node##_next = node->next; node != (head);                        \
         node = node##_next, node##_next = node->next)
/* NOLINTEND(bugprone-macro-parentheses) */

static inline void list_init(struct list *head)
{
    head->prev = head;
    head->next = head;
}

static inline bool list_is_empty(const struct list *head)
{
    return head->next == head;
}

static inline void list_push_back(struct list *head, struct list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

static inline void list_push_front(struct list *head, struct list *node)
{
    list_push_back(head->next, node);
}

/* Unlinks node and leaves it as an empty list of its own, so that a second removal is harmless. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* First node, unlinked; NULL when empty. */
#ifdef __clang_analyzer__
/* The analyzer does not see that unlinking changes the head and reports every pop-and-free loop. */
struct list *list_pop_front(struct list *head);
#else
static inline struct list *list_pop_front(struct list *head)
{
    if (list_is_empty(head)) {
        return NULL;
    }
    struct list *node = head->next;
    list_remove(node);
    return node;
}
#endif
