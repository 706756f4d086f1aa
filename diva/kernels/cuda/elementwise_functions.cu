// Transcendental functions: DK_EXP .. of elementwise.h.
#include "elementwise_pass.h"

#include "../native/elementwise_functions.h"

#if DK_HOST
namespace dk {

template <class T> PassEntry<T> function_pass(int f) { return functions::entry<Passes<T>>(f); }
template PassEntry<float> function_pass<float>(int);
template PassEntry<double> function_pass<double>(int);

}  // namespace dk
#endif
