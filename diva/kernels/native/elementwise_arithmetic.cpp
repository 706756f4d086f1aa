// Arithmetic of operands and numbers: DK_ADD .. of elementwise.h.
#include "elementwise_arithmetic.h"
#include "elementwise_loop.h"

namespace dk {

template <class T> Entry<T> arithmetic_entry(int f) { return arithmetic::entry<Loops<T>>(f); }
template Entry<float> arithmetic_entry<float>(int);
template Entry<double> arithmetic_entry<double>(int);

}  // namespace dk
