// Activations: DK_RELU .. of elementwise.h.
#include "elementwise_pass.h"

#include "../native/elementwise_activation.h"

#if DK_HOST
namespace dk {

template <class T> PassEntry<T> activation_pass(int f) { return activation::entry<Passes<T>>(f); }
template PassEntry<float> activation_pass<float>(int);
template PassEntry<double> activation_pass<double>(int);

}  // namespace dk
#endif
