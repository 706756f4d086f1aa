// Transcendental functions: DK_EXP .. of elementwise.h.
#include "elementwise_functions.h"
#include "elementwise_loop.h"

namespace dk {

template <class T> Entry<T> function_entry(int f) { return functions::entry<Loops<T>>(f); }
template Entry<float> function_entry<float>(int);
template Entry<double> function_entry<double>(int);

}  // namespace dk
