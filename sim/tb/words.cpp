// Verilator asks for the contents of each word of a memory by the memory's name alone, so that all of them begin the same. It
// calls these here instead (simulation.py): its own functions, with another name from the second word on.

#include "verilated.h"

#undef VL_SCOPED_RAND_RESET_I
#undef VL_SCOPED_RAND_RESET_Q
#undef VL_SCOPED_RAND_RESET_W
extern IData VL_SCOPED_RAND_RESET_I(int bits, uint64_t scope, uint64_t name);
extern QData VL_SCOPED_RAND_RESET_Q(int bits, uint64_t scope, uint64_t name);
extern WDataOutP VL_SCOPED_RAND_RESET_W(int bits, WDataOutP words, uint64_t scope, uint64_t name);

// The words of a memory come one behind another.
static uint64_t of_word(uint64_t scope, uint64_t name) {
    static uint64_t last_scope, last_name, word;
    word = scope == last_scope && name == last_name ? word + 1 : 0;
    last_scope = scope;
    last_name = name;
    return name ^ word * 0x9e3779b97f4a7c15ull;
}

IData of_each_word_i(int bits, uint64_t scope, uint64_t name) {
    return VL_SCOPED_RAND_RESET_I(bits, scope, of_word(scope, name));
}

QData of_each_word_q(int bits, uint64_t scope, uint64_t name) {
    return VL_SCOPED_RAND_RESET_Q(bits, scope, of_word(scope, name));
}

WDataOutP of_each_word_w(int bits, WDataOutP words, uint64_t scope, uint64_t name) {
    return VL_SCOPED_RAND_RESET_W(bits, words, scope, of_word(scope, name));
}
