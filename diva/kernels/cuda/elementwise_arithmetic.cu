// Arithmetic of operands and numbers: DK_ADD .. of elementwise.h.
#include "elementwise_pass.h"

#include "../native/elementwise_arithmetic.h"

#if DK_HOST
namespace dk {

template <class T> PassEntry<T> arithmetic_pass(int f) { return arithmetic::entry<Passes<T>>(f); }
template PassEntry<float> arithmetic_pass<float>(int);
template PassEntry<double> arithmetic_pass<double>(int);

}  // namespace dk
#endif
