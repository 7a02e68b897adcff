package serial

import (
	"fmt"
	"slices"
	"strings"

	"pam_pkcs11/ccid/device"
)

// Rates of the line in bit/s, and the longest message of serial readers.
const (
	lineRate   = 115200
	slowRate   = 9600
	maxMessage = 271
)

// model is a kind of serial reader. It has what a USB reader states in its descriptor, as the
// makers document it.
type model struct {
	name, product string
	vendorID      uint16 // of the same reader for USB, for the table of quirks
	productID     uint16
	slots         int
	clock         uint32 // kHz
	maxRate       uint32
	rates         []uint32
	features      device.Feature
	pin           byte // bPINSupport
	baud          int  // of the line at the start
	startsSlow    bool // begins at 9600 bit/s, and is switched to 115200
	probe         byte // the escape that asks for the firmware
	quiet         bool // sends no notices of card movements
}

// rates4 are the rates of ISO 7816-3 at 4 MHz, as GemPC Twin has them.
var rates4 = []uint32{
	10753, 14337, 15625, 17204, 20833, 21505, 23438, 25806, 28674, 31250,
	32258, 34409, 39063, 41667, 43011, 46875, 52083, 53763, 57348, 62500,
	64516, 68817, 71685, 78125, 83333, 86022, 93750, 104167, 107527, 114695,
	125000, 129032, 143369, 156250, 166667, 172043, 215054, 229391, 250000, 344086,
}

// rates48 are those of GemCore SIM Pro 2, at 4.8 MHz.
var rates48 = []uint32{
	8709, 10322, 12403, 12500, 12903, 17204, 18750, 20645, 24806, 25000,
	25806, 28125, 30967, 34408, 37500, 41290, 46875, 49612, 50000, 51612,
	56250, 62500, 64516, 68817, 74418, 75000, 82580, 86021, 93750, 99224,
	100000, 103225, 112500, 124031, 125000, 137634, 150000, 154838, 165161, 172043,
	187500, 198449, 200000, 206451, 258064, 275268, 300000, 396899, 400000, 412903,
	550537, 600000, 825806,
}

// Features of the models: the host makes the PPS and the IFS exchange for those of Gemalto, SEC1210
// makes the PPS itself.
const (
	featuresGemalto device.Feature = 0x10230
	featuresSEC1210 device.Feature = 0x100B2
)

// models are all models. The first is the default.
var models = []model{
	{
		name:      "GemPCTwin",
		product:   "Gemalto GemPC Twin (serial)",
		vendorID:  0x08E6,
		productID: 0x3437,
		slots:     1,
		clock:     4000,
		maxRate:   344086,
		rates:     rates4,
		features:  featuresGemalto,
		baud:      lineRate,
		probe:     0x02,
	},
	{
		name:      "GemPCPinPad",
		product:   "Gemalto GemPC PinPad (serial)",
		vendorID:  0x08E6,
		productID: 0x3478,
		slots:     1,
		clock:     4000,
		maxRate:   500000,
		rates:     withFastest(rates4),
		features:  featuresGemalto,
		pin:       3,
		baud:      lineRate,
		probe:     0x02,
	},
	{
		name:      "GemCorePOSPro",
		product:   "Gemalto GemCore POS Pro (serial)",
		vendorID:  0x08E6,
		productID: 0x3479,
		slots:     5,
		clock:     4000,
		maxRate:   500000,
		rates:     withFastest(rates4),
		features:  featuresGemalto,
		baud:      lineRate,
		probe:     0x02,
	},
	{
		name:      "GemCoreSIMPro",
		product:   "Gemalto GemCore SIM Pro (serial)",
		vendorID:  0x08E6,
		productID: 0x3480,
		slots:     2,
		clock:     4000,
		maxRate:   500000,
		rates:     withFastest(rates4),
		features:  featuresGemalto,
		baud:      lineRate,
		probe:     0x02,
	},
	{
		name:       "GemCoreSIMPro2",
		product:    "Gemalto GemCore SIM Pro 2 (serial)",
		vendorID:   0x08E6,
		slots:      2,
		clock:      4800,
		maxRate:    825806,
		rates:      rates48,
		features:   featuresGemalto,
		baud:       slowRate,
		startsSlow: true,
		probe:      0x02,
	},
	{
		name:      "SEC1210UR2",
		product:   "SMSC SEC1210 (serial)",
		vendorID:  0x0424,
		productID: 0x1202,
		slots:     2,
		clock:     4800,
		maxRate:   826000,
		features:  featuresSEC1210,
		baud:      lineRate,
		probe:     0x06,
		quiet:     true,
	},
	{
		name:      "SEC1210URT",
		product:   "SMSC SEC1210 URT (serial)",
		vendorID:  0x0424,
		productID: 0x1202,
		slots:     1,
		clock:     4800,
		maxRate:   826000,
		features:  featuresSEC1210,
		baud:      lineRate,
		probe:     0x06,
		quiet:     true,
	},
}

// aliases are other names in configurations of libccidtwin.
var aliases = map[string]string{"": "GemPCTwin", "SEC1210": "SEC1210UR2"}

// withFastest adds the rate of readers that go beyond the table at 4 MHz.
func withFastest(rates []uint32) []uint32 { return append(slices.Clone(rates), 500000) }

// Models returns the names of the models, as in DEVICENAME of pcscd's reader.conf.
func Models() []string {
	names := make([]string, len(models))
	for i := range models {
		names[i] = models[i].name
	}
	return names
}

// modelOf finds a model by its name or alias; "" is the default.
func modelOf(name string) (*model, error) {
	if full, ok := aliases[name]; ok {
		name = full
	}
	for i := range models {
		if strings.EqualFold(models[i].name, name) {
			return &models[i], nil
		}
	}
	return nil, fmt.Errorf("no serial reader is called %q: %s", name, strings.Join(Models(), ", "))
}

// describe is the interface descriptor that the reader would have.
func (m *model) describe() *device.Interface {
	return &device.Interface{
		Class:    device.ClassSmartCard,
		Protocol: device.ProtocolCCID,
		CCID: device.ClassDescriptor{
			Release:            0x0100,
			MaxSlotIndex:       byte(m.slots - 1),
			VoltageSupport:     7, // 5 V, 3 V, 1.8 V
			Protocols:          3, // T=0, T=1
			DefaultClock:       m.clock,
			MaximumClock:       m.clock,
			DataRate:           10753,
			MaxDataRate:        m.maxRate,
			DataRatesSupported: byte(len(m.rates)),
			MaxIFSD:            254,
			Features:           m.features,
			MaxMessageLength:   maxMessage,
			PINSupport:         m.pin,
			MaxBusySlots:       1,
		},
	}
}

// info is what USB would say of the reader.
func (m *model) info(path string) device.Info {
	maker, _, _ := strings.Cut(m.product, " ")
	return device.Info{
		Vendor:       m.vendorID,
		Product:      m.productID,
		Manufacturer: maker,
		Name:         m.product,
		Path:         path,
	}
}
