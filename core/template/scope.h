/*
 * Which variable a name means, decided when the template is parsed, by the rules that jinja2
 * compiles to Python with: loops, macros, blocks that are captured and `with` open a scope; what is
 * set inside does not leave it; a name that any branch of a scope sets belongs to that scope.
 */
#ifndef OFTD_CORE_TEMPLATE_SCOPE_H
#define OFTD_CORE_TEMPLATE_SCOPE_H

#include "core/template/node.h"

/* Gives every name of t->body its place, and t its globals. False when memory runs out. */
bool scope_resolve(struct template *t);

#endif
