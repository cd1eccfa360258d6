"""The seeded text that Olive Press's embedded base model is trained on.

Everything is made here: hand-written tables of general knowledge, turned into question-answer chats in many
phrasings, and a grammar of scenes, stories, recipes, directions and dialogues, turned into plain paragraphs.
No other file is read and nothing is downloaded. ``make_documents(seed, size)`` is what the trainer calls; the
same arguments give the same text on every machine.

How the tables are written:

* one row per line, columns separated by ``|``; an indented line continues the row above it; ``-`` stands for
  a column that does not apply; a leading ``*`` marks a noun without article or plural (``*butter``);
* in the question tables, ``question / another phrasing => answer``, with ``{0}``, ``{1}``... for the columns;
* ``{0:a}`` writes a word with its article, ``{0:s}`` in the plural, ``{do:past}``, ``{do:ing}`` and
  ``{do:third}`` conjugate the first word.
"""

import hashlib
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

Pair = tuple[str, str]  # a question and its answer

SAMPLE_QUESTIONS = (
    "what is the capital of france",
    "What sound does a cow make?",
    "What is the opposite of hot?",
    "what colour is the sky",
    "what day comes after monday",
    "what do bees make",
    "How many legs does a spider have?",
    "What does a baker do?",
    "is a carrot a vegetable?",
    "What is 3 plus 4?",
    "Which is bigger, a mouse or a horse?",
    "What is a museum?",
    "Where does the penguin live?",
    "How do I boil an egg?",
    "Name the largest planet.",
    "What is the plural of child?",
)

# ---------------------------------------------------------------------------------------------- places

COUNTRIES = """
France|Paris|French|Western Europe|euro|fine bread, cheese and the Eiffel Tower
Germany|Berlin|German|Central Europe|euro|cars, forests and old castles
Italy|Rome|Italian|Southern Europe|euro|pasta, pizza and ancient ruins
Spain|Madrid|Spanish|Southern Europe|euro|sunny beaches, dancing and late dinners
Portugal|Lisbon|Portuguese|Southern Europe|euro|painted tiles, fish and explorers
the United Kingdom|London|English|Western Europe|pound|tea, castles and rainy weather
Ireland|Dublin|English and Irish|Western Europe|euro|green hills, music and sheep
the Netherlands|Amsterdam|Dutch|Western Europe|euro|tulips, bicycles and windmills
Belgium|Brussels|Dutch and French|Western Europe|euro|chocolate, waffles and lace
Switzerland|Bern|German, French and Italian|Central Europe|franc|mountains, watches and chocolate
Austria|Vienna|German|Central Europe|euro|classical music, cakes and ski slopes
Greece|Athens|Greek|Southern Europe|euro|islands, olives and ancient temples
Turkey|Ankara|Turkish|Western Asia|lira|carpets, tea and busy bazaars
Norway|Oslo|Norwegian|Northern Europe|krone|deep fjords, fish and snow
Sweden|Stockholm|Swedish|Northern Europe|krona|forests, lakes and wooden furniture
Denmark|Copenhagen|Danish|Northern Europe|krone|bicycles, pastries and toy bricks
Finland|Helsinki|Finnish|Northern Europe|euro|lakes, saunas and long winters
Iceland|Reykjavik|Icelandic|Northern Europe|krona|volcanoes, glaciers and hot springs
Poland|Warsaw|Polish|Central Europe|zloty|dumplings, amber and old market squares
the Czech Republic|Prague|Czech|Central Europe|koruna|glass, puppets and bridges
Hungary|Budapest|Hungarian|Central Europe|forint|hot baths, paprika and goulash
Romania|Bucharest|Romanian|Eastern Europe|leu|mountains, castles and bears
Bulgaria|Sofia|Bulgarian|Eastern Europe|euro|roses, yogurt and monasteries
Croatia|Zagreb|Croatian|Southern Europe|euro|a rocky coast and clear blue sea
Ukraine|Kyiv|Ukrainian|Eastern Europe|hryvnia|wheat fields, sunflowers and beetroot soup
Russia|Moscow|Russian|Eastern Europe and Northern Asia|rouble|cold winters, ballet and long railways
Estonia|Tallinn|Estonian|Northern Europe|euro|medieval streets and quiet forests
Latvia|Riga|Latvian|Northern Europe|euro|beaches, choirs and rye bread
Egypt|Cairo|Arabic|North Africa|pound|pyramids, deserts and the River Nile
Morocco|Rabat|Arabic|North Africa|dirham|spices, markets and mint tea
Tunisia|Tunis|Arabic|North Africa|dinar|dates, beaches and Roman ruins
Kenya|Nairobi|Swahili and English|East Africa|shilling|lions, elephants and safaris
Ethiopia|Addis Ababa|Amharic|East Africa|birr|coffee and high mountains
Ghana|Accra|English|West Africa|cedi|cocoa, gold and bright cloth
Nigeria|Abuja|English|West Africa|naira|music, films and oil
South Africa|Pretoria|Zulu, English and other languages|Southern Africa|rand|wild animals, diamonds and wine
Madagascar|Antananarivo|Malagasy and French|East Africa|ariary|lemurs, vanilla and strange trees
Israel|Jerusalem|Hebrew|Western Asia|shekel|holy places, oranges and beaches
Saudi Arabia|Riyadh|Arabic|Western Asia|riyal|deserts, oil and dates
Iran|Tehran|Persian|Western Asia|rial|carpets, poetry and gardens
India|New Delhi|Hindi and English|South Asia|rupee|spices, festivals and the Taj Mahal
Pakistan|Islamabad|Urdu and English|South Asia|rupee|high mountains, cricket and mangoes
Nepal|Kathmandu|Nepali|South Asia|rupee|Mount Everest and mountain paths
Sri Lanka|Colombo|Sinhala and Tamil|South Asia|rupee|tea, elephants and beaches
China|Beijing|Chinese|East Asia|yuan|the Great Wall, silk and dumplings
Japan|Tokyo|Japanese|East Asia|yen|fast trains, sushi and cherry blossom
South Korea|Seoul|Korean|East Asia|won|pop music, phones and spicy cabbage
Mongolia|Ulaanbaatar|Mongolian|East Asia|tugrik|horses, tents and wide grassland
Thailand|Bangkok|Thai|Southeast Asia|baht|golden temples, beaches and spicy soup
Vietnam|Hanoi|Vietnamese|Southeast Asia|dong|noodle soup, rice fields and motorbikes
Cambodia|Phnom Penh|Khmer|Southeast Asia|riel|jungle temples and silk
Malaysia|Kuala Lumpur|Malay|Southeast Asia|ringgit|rainforests, towers and street food
Indonesia|Jakarta|Indonesian|Southeast Asia|rupiah|thousands of islands and volcanoes
the Philippines|Manila|Filipino and English|Southeast Asia|peso|islands, coral reefs and friendly people
Singapore|Singapore|English, Malay, Chinese and Tamil|Southeast Asia|dollar|clean streets and tall buildings
Australia|Canberra|English|Oceania|dollar|kangaroos, deserts and coral reefs
New Zealand|Wellington|English and Maori|Oceania|dollar|sheep, kiwis and green mountains
Canada|Ottawa|English and French|North America|dollar|maple syrup, lakes and ice hockey
the United States|Washington|English|North America|dollar|films, jazz and wide open roads
Mexico|Mexico City|Spanish|North America|peso|tacos, chillies and ancient pyramids
Cuba|Havana|Spanish|the Caribbean|peso|old cars, sugar and dance music
Jamaica|Kingston|English|the Caribbean|dollar|reggae music, runners and beaches
Costa Rica|San José|Spanish|Central America|colon|rainforests, coffee and sloths
Panama|Panama City|Spanish|Central America|balboa|a canal between two oceans
Colombia|Bogotá|Spanish|South America|peso|coffee, emeralds and flowers
Venezuela|Caracas|Spanish|South America|bolivar|oil and the highest waterfall in the world
Ecuador|Quito|Spanish|South America|dollar|bananas, volcanoes and giant tortoises
Peru|Lima|Spanish|South America|sol|potatoes, llamas and Machu Picchu
Bolivia|Sucre|Spanish|South America|boliviano|salt plains and high lakes
Brazil|Brasília|Portuguese|South America|real|football, carnival and the Amazon rainforest
Argentina|Buenos Aires|Spanish|South America|peso|tango, steak and wide plains
Chile|Santiago|Spanish|South America|peso|a long coast, deserts and stars
Uruguay|Montevideo|Spanish|South America|peso|cattle, beaches and barbecues
"""

COUNTRY_QUESTIONS = """
What is the capital of {0}? / Which city is the capital of {0}? / Name the capital of {0}.
  / What is the capital city of {0}? / {0}: what is its capital? / What's the capital of {0}?
  / Tell me the capital of {0}. => The capital of {0} is {1}.
Which country has {1} as its capital? / {1} is the capital of which country?
  / What country is {1} the capital of? / Of which country is {1} the capital? => {1} is the capital of {0}.
What language do people speak in {0}? / Which language is spoken in {0}? / What do they speak in {0}?
  / What is the language of {0}? => People in {0} speak {2}.
Where is {0}? / Where does {0} lie? / In which part of the world is {0}? / Which region is {0} in?
  => {0:be} in {3}.
What is the currency of {0}? / What money do they use in {0}? / Which money is used in {0}?
  => The money of {0} is called the {4}.
What is {0} known for? / What is {0} famous for? / Why do people visit {0}? / Tell me about {0}.
  => {0:be} known for {5}.
"""
COUNTRY_STORY = (
    "{0:be} in {3}. The capital is {1}, and the people speak {2}. Visitors pay with the {4}. "
    "The country is known for {5}."
)

CITIES = """
Barcelona|Spain|colourful buildings, beaches and football
Seville|Spain|orange trees, palaces and flamenco dancing
Valencia|Spain|rice dishes and oranges
Granada|Spain|a red palace on a hill
Porto|Portugal|a tall iron bridge and sweet wine
Venice|Italy|canals, bridges and boats called gondolas
Florence|Italy|paintings, statues and a great cathedral dome
Milan|Italy|fashion, design and a huge cathedral
Naples|Italy|pizza and the volcano Vesuvius
Pisa|Italy|a leaning tower
Verona|Italy|the story of Romeo and Juliet
Lyon|France|silk and good restaurants
Marseille|France|an old harbour and fish soup
Nice|France|a sunny seaside walk
Bordeaux|France|wine and elegant squares
Strasbourg|France|a Christmas market and wooden houses
Munich|Germany|beer gardens and a clock tower
Hamburg|Germany|a busy port and warehouses
Cologne|Germany|a tall cathedral beside the Rhine
Dresden|Germany|palaces and porcelain
Salzburg|Austria|the composer Mozart
Geneva|Switzerland|a lake with a tall fountain
Zurich|Switzerland|banks, trams and a clean lake
Bruges|Belgium|quiet canals and lace
Rotterdam|the Netherlands|modern buildings and a very large port
Bergen|Norway|wooden houses and rain
Krakow|Poland|a grand market square and a dragon legend
Edinburgh|the United Kingdom|a castle on a rock and a summer festival
Liverpool|the United Kingdom|docks and the Beatles
Oxford|the United Kingdom|an old university
Bath|the United Kingdom|Roman baths and golden stone
York|the United Kingdom|narrow lanes and old walls
Cork|Ireland|a covered food market
Istanbul|Turkey|mosques, ferries and a grand bazaar
Dubai|the United Arab Emirates|the tallest tower in the world
Marrakesh|Morocco|red walls, gardens and a lively square
Alexandria|Egypt|its ancient lighthouse and library
Cape Town|South Africa|a flat mountain above the sea
Mumbai|India|films, trains and street snacks
Agra|India|the Taj Mahal
Kyoto|Japan|wooden temples, gardens and tea houses
Osaka|Japan|street food and a tall castle
Shanghai|China|a river front with bright towers
Hong Kong|China|a crowded harbour and steep hills
Sydney|Australia|an opera house shaped like sails
Melbourne|Australia|coffee, trams and sports
Auckland|New Zealand|two harbours and many sailing boats
New York|the United States|skyscrapers, yellow taxis and the Statue of Liberty
San Francisco|the United States|a red bridge, fog and cable cars
Chicago|the United States|wind, lakeside parks and deep pizza
New Orleans|the United States|jazz and spicy stews
Los Angeles|the United States|film studios and beaches
Toronto|Canada|a very tall tower beside a lake
Montreal|Canada|bagels, festivals and snow
Vancouver|Canada|mountains, forests and the ocean
Rio de Janeiro|Brazil|carnival, beaches and a statue on a mountain
Cusco|Peru|stone walls built by the Incas
"""
CITY_QUESTIONS = """
Where is {0}? / Which country is {0} in? / In which country is {0}? / In what country can you find {0}?
  => {0} is a city in {1}.
What is {0} known for? / What is {0} famous for? / Why do tourists visit {0}? / What can I see in {0}?
  => {0} is known for {2}.
"""
CITY_STORY = "{0} is a city in {1}. Many travellers go there every year, because it is known for {2}."

LANDMARKS = """
the Eiffel Tower|Paris|an iron tower
the Louvre|Paris|a huge art museum
the Colosseum|Rome|an ancient stadium
Big Ben|London|a clock tower
the British Museum|London|a museum of ancient treasures
Tower Bridge|London|a bridge that opens for ships
the Acropolis|Athens|a hill with ancient temples
the Brandenburg Gate|Berlin|a stone gate
the Charles Bridge|Prague|a bridge with statues
the Prado|Madrid|a famous picture gallery
the Little Mermaid|Copenhagen|a small statue by the sea
the Kremlin|Moscow|a fortress with red walls
the Great Pyramid|Egypt|a giant ancient tomb
the Great Wall|China|a very long stone wall
the Taj Mahal|India|a white marble tomb
Mount Fuji|Japan|a snowy volcano
the Statue of Liberty|New York|a green statue with a torch
the Golden Gate Bridge|San Francisco|a long red bridge
the Opera House|Sydney|a theatre with white roofs
Machu Picchu|Peru|an old city high in the mountains
Stonehenge|England|a circle of huge stones
Niagara Falls|Canada and the United States|a wide waterfall
the Grand Canyon|the United States|a deep valley of red rock
Mount Everest|Nepal|the highest mountain in the world
the Sahara|North Africa|the largest hot desert in the world
the Amazon|South America|a mighty river through the rainforest
the Nile|Africa|a very long river
the Danube|Europe|a river that flows through many countries
the Thames|London|a river with many bridges
the Seine|Paris|a river with many bridges
the Rhine|Germany|a river with castles along its banks
the Alps|Europe|a range of high snowy mountains
the Andes|South America|a very long range of mountains
the Himalayas|Asia|the highest mountains in the world
Lake Victoria|Africa|a very large lake
the Dead Sea|Western Asia|a salty lake where people float easily
the Great Barrier Reef|Australia|the largest coral reef in the world
"""
LANDMARK_QUESTIONS = """
Where is {0}? / Where can I find {0}? / Where can you see {0}? / In which place is {0}? => {0:be} in {1}.
What is {0}? / What do people mean by {0}? / Can you describe {0}? => {0:be} {2} in {1}.
"""

GREETINGS = """
French|bonjour|merci
Spanish|hola|gracias
Italian|ciao|grazie
German|hallo|danke
Portuguese|olá|obrigado
Dutch|hallo|dank je
Japanese|konnichiwa|arigato
Swedish|hej|tack
Turkish|merhaba|teşekkürler
Greek|yassas|efharisto
Polish|cześć|dziękuję
Swahili|jambo|asante
Hindi|namaste|dhanyavaad
Arabic|marhaba|shukran
Korean|annyeong|gamsahamnida
Chinese|ni hao|xiexie
"""
GREETING_QUESTIONS = """
How do you say hello in {0}? / What is hello in {0}? / How can I greet someone in {0}?
  => Hello in {0} is "{1}".
How do you say thank you in {0}? / What is thank you in {0}? / How can I thank someone in {0}?
  => Thank you in {0} is "{2}".
"""

# --------------------------------------------------------------------------------------------- animals

ANIMALS = """
cow|moos|a field|grass|4|calf|gives us milk
horse|neighs|a stable|hay and oats|4|foal|can carry a rider
donkey|brays|a stable|hay and thistles|4|foal|carries heavy loads
pig|oinks|a sty|vegetables and grain|4|piglet|likes to roll in mud
sheep|bleats|a meadow|grass|4|lamb|gives us wool
goat|bleats|a hillside|grass and leaves|4|kid|climbs steep rocks
dog|barks|a kennel|meat and biscuits|4|puppy|guards the house
cat|meows|a house|meat and fish|4|kitten|catches mice
mouse|squeaks|a hole|seeds and cheese|4|pup|is small and shy
rat|squeaks|a drain|almost anything|4|pup|is a clever climber
rabbit|squeaks|a burrow|grass and carrots|4|kit|has long ears
hamster|squeaks|a cage|seeds and nuts|4|pup|stores food in its cheeks
squirrel|chatters|a tree|nuts and acorns|4|kit|has a bushy tail
hedgehog|snuffles|a hedge|slugs and beetles|4|hoglet|is covered in spines
fox|yelps|a den|mice and berries|4|cub|is said to be cunning
wolf|howls|a forest|deer and smaller animals|4|cub|hunts in a pack
bear|growls|a cave|berries, honey and fish|4|cub|sleeps through the winter
deer|bellows|a forest|leaves and grass|4|fawn|runs very gracefully
lion|roars|the savanna|meat|4|cub|is called the king of the beasts
tiger|growls|the jungle|meat|4|cub|has orange fur with black stripes
leopard|growls|the forest|meat|4|cub|has a spotted coat
cheetah|chirps|the savanna|meat|4|cub|is the fastest animal on land
elephant|trumpets|the savanna|grass, leaves and bark|4|calf|has a long trunk
giraffe|hums|the savanna|leaves from tall trees|4|calf|has a very long neck
zebra|barks|the savanna|grass|4|foal|has black and white stripes
hippopotamus|grunts|rivers and lakes|grass|4|calf|spends the day in water
rhinoceros|snorts|the savanna|grass and leaves|4|calf|has a horn on its nose
monkey|chatters|the jungle|fruit and leaves|-|infant|swings through the trees
gorilla|grunts|the rainforest|leaves and shoots|-|infant|is the largest ape
camel|grunts|the desert|dry plants|4|calf|has a hump on its back
kangaroo|clicks|the grassland|grass|-|joey|jumps with its baby in a pouch
koala|bellows|gum trees|gum leaves|4|joey|sleeps most of the day
panda|bleats|bamboo forests|bamboo|4|cub|has black and white fur
bat|squeaks|a cave|insects and fruit|2|pup|flies at night
whale|sings|the ocean|small sea creatures and fish|0|calf|is the largest animal of all
dolphin|whistles|the ocean|fish|0|calf|is friendly and clever
seal|barks|cold coasts|fish|-|pup|swims very well
hen|clucks|a coop|corn and worms|2|chick|lays eggs
rooster|crows|a farmyard|corn and worms|2|chick|wakes the farm in the morning
duck|quacks|a pond|water plants and bread|2|duckling|has webbed feet
goose|honks|a pond|grass|2|gosling|flies south in winter
turkey|gobbles|a farmyard|corn and acorns|2|chick|spreads its tail like a fan
owl|hoots|a hollow tree|mice|2|owlet|can turn its head far round
crow|caws|a tall tree|seeds and insects|2|chick|is a clever black bird
pigeon|coos|city squares|seeds and crumbs|2|squab|can find its way home
parrot|squawks|the rainforest|fruit and seeds|2|chick|can copy words
eagle|screams|high cliffs|rabbits and fish|2|eaglet|has very sharp eyes
swan|hisses|a lake|water plants|2|cygnet|has a long white neck
penguin|brays|the icy south|fish|2|chick|cannot fly but swims well
ostrich|booms|the savanna|plants and seeds|2|chick|is the largest bird
robin|tweets|a garden|worms and berries|2|chick|has a red breast
sparrow|chirps|a hedge|seeds and crumbs|2|chick|is small and brown
seagull|cries|the seaside|fish and scraps|2|chick|steals chips from visitors
peacock|screams|parks and forests|seeds and insects|2|peachick|has a beautiful tail
frog|croaks|a pond|flies|4|tadpole|catches flies with its tongue
toad|croaks|damp gardens|slugs and insects|4|tadpole|has dry, bumpy skin
snake|hisses|grass and rocks|mice and eggs|0|snakelet|has no legs
lizard|hisses|warm rocks|insects|4|hatchling|likes to lie in the sun
crocodile|bellows|warm rivers|fish and meat|4|hatchling|has a mouth full of sharp teeth
tortoise|hisses|dry land|leaves and flowers|4|hatchling|carries its house on its back
turtle|hisses|the sea|sea grass and jellyfish|4|hatchling|lays its eggs on the beach
shark|-|the ocean|fish|0|pup|has rows of sharp teeth
salmon|-|rivers and the sea|insects and small fish|0|fry|swims up rivers to lay eggs
octopus|-|the sea floor|crabs|0|larva|has eight arms
crab|clicks|the seashore|seaweed and small animals|10|larva|walks sideways
bee|buzzes|a hive|nectar|6|larva|makes honey
wasp|buzzes|a nest|insects and sweet fruit|6|larva|can sting
ant|-|an anthill|crumbs and insects|6|larva|works hard in a colony
butterfly|-|gardens and meadows|nectar|6|caterpillar|has colourful wings
fly|buzzes|warm places|almost anything|6|maggot|has very fast wings
mosquito|whines|damp places|nectar and blood|6|larva|bites people in the evening
cricket|chirps|grass|leaves|6|nymph|sings on summer nights
beetle|clicks|under stones and leaves|plants and insects|6|grub|has hard wing covers
ladybird|-|gardens|tiny green insects|6|larva|is red with black spots
spider|-|a web|flies|8|spiderling|spins a web
scorpion|-|the desert|insects|8|scorpling|has a sting in its tail
snail|-|damp gardens|leaves|0|hatchling|carries a shell
worm|-|the soil|dead leaves|0|wormlet|keeps the soil healthy
"""
ANIMAL_QUESTIONS = """
What sound does {0:a} make? / What noise does {0:a} make? / How does {0:a} sound? / What does the {0} say?
  / Which sound do {0:s} make? => {0:a} {1}.
Which animal {1}? / What animal {1}? / What kind of animal {1}? => {0:a} {1}.
Where does {0:a} live? / Where does the {0} live? / Where do {0:s} live? / What is the home of {0:a}?
  / Where can you find {0:a}? => {0:a} lives in {2}.
What does {0:a} eat? / What do {0:s} eat? / What food does {0:a} like? / What should {0:a} eat?
  => {0:a} eats {3}.
How many legs does {0:a} have? / How many legs do {0:s} have? / How many legs has {0:a}?
  / What number of legs does {0:a} have? => {0:a} has {4:legs}.
What is a baby {0} called? / What do you call a baby {0}? / What is the name for a young {0}?
  => A baby {0} is called {5:a}.
What is special about {0:a}? / Tell me about {0:s}. / What do you know about {0:s}? / Describe {0:a}.
  => {0:a} {6}.
Which animal {6}? / What animal {6}? / Name an animal that {6}. => {0:a} {6}.
"""
ANIMAL_STORY = "{0:a} {6}. It lives in {2} and eats {3}. A baby {0} is called {5:a}."

PRODUCTS = """
bees|honey
cows|milk
hens|eggs
sheep|wool
spiders|webs
silkworms|silk
oysters|pearls
beavers|dams
birds|nests
maple trees|a sweet sap for syrup
apple trees|apples
vines|grapes
olive trees|olives
bakers|bread
potters|pots
tailors|clothes
"""
PRODUCT_QUESTIONS = """
What do {0} make? / What do {0} produce? / What do we get from {0}? / What is made by {0}?
  => {0} make {1}.
Who makes {1}? / What makes {1}? / Where do we get {1} from? => {0} make {1}.
"""

CATEGORIES = """
fruit|apple, banana, orange, lemon, lime, pear, peach, plum, cherry, grape, strawberry, raspberry, blueberry,
  blackberry, melon, watermelon, pineapple, mango, kiwi, apricot, fig, coconut, pomegranate, grapefruit,
  papaya
vegetable|carrot, potato, onion, cabbage, cauliflower, turnip, parsnip, radish, beetroot, leek, cucumber, pea,
  *broccoli, *spinach, *lettuce, *celery, *asparagus, pumpkin, courgette, aubergine, artichoke, sprout,
  shallot
herb|*basil, *mint, *parsley, *thyme, *rosemary, *sage, *coriander, *dill, *oregano, *tarragon
spice|*cinnamon, *pepper, *ginger, *nutmeg, *paprika, *cumin, *turmeric, *saffron, *cardamom, *vanilla
drink|*water, *milk, *tea, *coffee, *lemonade, *cocoa, *wine, *beer, *cider, *orange juice, *hot chocolate
dish|omelette, stew, salad, sandwich, pizza, pie, risotto, curry, casserole, burger, pancake, *soup, *pasta
sweet treat|muffin, doughnut, biscuit, brownie, éclair, tart, waffle, pudding, lollipop, *toffee, *fudge
bird|robin, sparrow, pigeon, eagle, owl, swan, penguin, parrot, crow, seagull, ostrich, hawk, swallow,
  pelican, flamingo, woodpecker, kingfisher, stork, heron, blackbird, magpie, canary, peacock, goose, duck,
  hen
fish|salmon, trout, cod, herring, tuna, sardine, carp, eel, shark, goldfish, mackerel, haddock, pike, anchovy
insect|bee, wasp, ant, fly, beetle, butterfly, moth, mosquito, cricket, grasshopper, dragonfly, ladybird, flea
mammal|cow, horse, dog, cat, lion, tiger, elephant, whale, dolphin, bat, mouse, rabbit, fox, wolf, bear, deer,
  monkey, goat, pig, camel, kangaroo, otter, badger, mole, squirrel, hedgehog, buffalo, moose, walrus,
  antelope
reptile|snake, lizard, crocodile, alligator, tortoise, turtle, chameleon, gecko, iguana
tree|oak, pine, birch, maple, willow, beech, elm, ash, fir, cedar, poplar, chestnut tree, palm, walnut tree
flower|rose, tulip, daisy, lily, sunflower, daffodil, poppy, violet, orchid, pansy, carnation, bluebell, iris
piece of furniture|chair, table, sofa, bed, wardrobe, desk, bookcase, cupboard, stool, bench, armchair,
  dresser
vehicle|car, bus, train, tram, lorry, van, taxi, bicycle, motorbike, tractor, scooter, ambulance, fire engine
boat|ferry, yacht, canoe, kayak, raft, submarine, barge, dinghy, liner, sailing boat, rowing boat
aircraft|aeroplane, helicopter, glider, hot-air balloon, airship, jet, seaplane
tool|hammer, saw, spanner, screwdriver, drill, chisel, axe, shovel, rake, spade, file, ladder, crowbar, plane
kitchen tool|whisk, ladle, spatula, sieve, grater, peeler, rolling pin, colander, kettle, saucepan, frying
  pan, tin opener, corkscrew, mixing bowl, chopping board, measuring jug, wooden spoon, baking tray, toaster
musical instrument|piano, violin, guitar, flute, drum, trumpet, cello, harp, clarinet, trombone, accordion,
  saxophone, tambourine, xylophone, banjo, recorder, organ, oboe, tuba
piece of clothing|shirt, skirt, jacket, coat, hat, scarf, sock, dress, jumper, glove, belt, tie, cardigan,
  waistcoat, blouse, apron, raincoat, sweater, nightgown, swimsuit, cap, vest
building|house, castle, church, hospital, library, museum, hotel, theatre, palace, temple, cathedral, factory,
  barn, cottage, skyscraper, warehouse, lighthouse, windmill, mosque, tower, bungalow, mansion
shape|circle, square, triangle, rectangle, oval, pentagon, hexagon, star, cube, sphere, cone, pyramid,
  cylinder
metal|*iron, *gold, *silver, *copper, *tin, *lead, *zinc, *steel, *aluminium, *bronze, *brass, *platinum
gemstone|diamond, ruby, emerald, sapphire, pearl, opal, *amber, *jade, topaz, garnet
sport|*football, *tennis, *cricket, *rugby, *hockey, *basketball, *swimming, *boxing, *golf, *cycling,
  *rowing, *volleyball, *badminton, *skiing, *fencing, *judo, *athletics, *gymnastics, *baseball, *archery
game|*chess, *dominoes, *draughts, *hide and seek, *hopscotch, card game, puzzle, board game, *marbles
toy|doll, teddy bear, kite, spinning top, yo-yo, puppet, rattle, rocking horse, toy train, jigsaw
container|box, bottle, jar, basket, bucket, bag, barrel, crate, tin, jug, suitcase, drawer, envelope, flask
language|*French, *Spanish, *English, *German, *Italian, *Greek, *Japanese, *Russian, *Arabic, *Hindi,
  *Turkish
planet|*Mercury, *Venus, *Mars, *Jupiter, *Saturn, *Uranus, *Neptune
season|*spring, *summer, *autumn, *winter
meal|*breakfast, *lunch, *dinner, *supper, picnic, snack, feast
dairy food|*butter, *cheese, *cream, *yogurt, *buttermilk, *custard
grain|*rice, *wheat, *barley, *maize, *rye, *millet
nut|almond, walnut, hazelnut, peanut, cashew, pistachio, chestnut, pecan
relative|mother, father, brother, sister, aunt, uncle, cousin, grandmother, grandfather, nephew, niece
feeling|*joy, *anger, *fear, *sadness, *surprise, *love, *pride, *envy, *hope, *shame, *boredom, *relief
school subject|*history, *geography, *mathematics, *science, *art, *music, *biology, *chemistry, *physics
"""
CATEGORY_YES = """
Is {0:a} {1:a}? / Would you call {0:a} {1:a}? => Yes, {0:a} is {1:a}.
What kind of thing is {0:a}? / What sort of thing is {0:a}? / To which group does {0:a} belong?
  => {0:a} is {1:a}.
"""
CATEGORY_NO = "Is {0:a} {2:a}? / Would you call {0:a} {2:a}? => No, {0:a} is not {2:a}. It is {1:a}."
CATEGORY_LIST = """
Name three {0:s}. / Can you name three {0:s}? / Give me three examples of {0:s}. / List some {0:s}.
  => Three {0:s} are {1:a}, {2:a} and {3:a}.
Give me an example of {0:a}. / Name {0:a}. / What is an example of {0:a}? => {1:a} is {0:a}.
"""

# ----------------------------------------------------------------------------------------- definitions

THINGS = """
museum|a building where people look at art and old objects
gallery|a place where paintings are shown
station|a place where trains or buses stop
platform|the raised place beside the railway line where people wait
airport|a place where aeroplanes take off and land
harbour|a sheltered place where boats are tied up
port|a town with a harbour for ships
ticket|a piece of paper that lets you travel or enter
passport|a small book that shows who you are when you travel abroad
visa|a stamp that allows you to enter a country
suitcase|a strong box with a handle for carrying clothes
backpack|a bag that you carry on your back
luggage|all the bags that a traveller takes along
hotel|a building where travellers pay to sleep
hostel|a cheap place to sleep, often with shared rooms
campsite|a field where people put up tents
tent|a shelter made of cloth and poles
map|a drawing that shows roads, rivers and towns
compass|an instrument that shows where north is
timetable|a list of the times when trains or buses leave
journey|a trip from one place to another
voyage|a long journey by sea
tourist|a person who visits places for pleasure
guide|a person who shows visitors the way
souvenir|something you buy to remember a trip
postcard|a card with a picture that you send without an envelope
border|the line between two countries
customs|the place where officers check your bags at a border
currency|the money that a country uses
embassy|an office that helps its citizens in a foreign country
bridge|a road or path built over a river
tunnel|a passage under the ground or through a hill
canal|a river made by people for boats
river|a wide stream of water that flows to the sea
stream|a small and narrow river
waterfall|a place where a river drops over a cliff
lake|a large area of water with land all around it
pond|a small area of still water
ocean|a very large area of salt water
island|a piece of land with water all around it
peninsula|a piece of land with water on three sides
coast|the land beside the sea
beach|a strip of sand or pebbles beside the sea
cliff|a steep wall of rock
cave|a hollow place in a rock or a hill
valley|the low land between two hills
mountain|a very high hill
volcano|a mountain that can throw out hot melted rock
glacier|a slow river of ice
desert|a very dry place where few plants grow
forest|a large area covered with trees
jungle|a thick forest in a hot country
meadow|a field full of grass and flowers
swamp|an area of soft, wet ground
marsh|low land that is always wet
oasis|a place in the desert with water and trees
capital|the city where a country has its government
village|a place in the country with a few houses
suburb|an area of houses at the edge of a city
market|a place where people buy and sell food and goods
square|an open place in the middle of a town
avenue|a wide street with trees on both sides
alley|a narrow lane between buildings
pavement|the path for walkers beside a street
crossroads|a place where two roads meet
roundabout|a circle that cars drive around where roads meet
motorway|a wide road where cars can drive fast
traffic|all the cars and lorries that move along a road
passenger|a person who travels in a vehicle but does not drive it
pedestrian|a person who walks in the street
ferry|a boat that carries people and cars across water
tram|a kind of train that runs on rails in the street
lighthouse|a tower with a bright light that warns ships
windmill|a building with sails that turn in the wind
castle|a large old building with thick walls that kept enemies out
palace|a grand house where a king or queen lives
cathedral|a very large and important church
temple|a building where people pray
monument|a statue or building that helps us remember someone
ruin|what is left of a very old building
fountain|a thing that throws water up into the air
statue|a figure made of stone, wood or metal
library|a building where you can borrow books
bakery|a shop that makes and sells bread
pharmacy|a shop that sells medicine
grocery|a shop that sells food
restaurant|a place where people pay to eat a meal
café|a place where people drink coffee and eat cakes
menu|a list of the dishes that a restaurant serves
recipe|a set of instructions for cooking a dish
ingredient|one of the foods that go into a dish
oven|a hot box for baking and roasting
stove|a thing with flames or hot plates for cooking
fridge|a cold cupboard that keeps food fresh
freezer|a very cold box that keeps food frozen
kettle|a pot with a spout for boiling water
saucepan|a deep pot with a long handle
frying pan|a flat pan for cooking food in hot oil
bowl|a round, deep dish
plate|a flat dish that you eat from
spoon|a tool with a small bowl for eating soup
fork|a tool with points for picking up food
knife|a tool with a sharp blade for cutting
ladle|a deep spoon with a long handle for serving soup
whisk|a tool for beating eggs and cream
sieve|a net of wire that separates lumps from powder
grater|a tool with sharp holes for shredding cheese
rolling pin|a round stick for making dough flat
apron|a piece of cloth that keeps your clothes clean in the kitchen
tray|a flat board for carrying cups and plates
lid|the cover of a pot or a box
jug|a container with a handle for pouring liquids
teapot|a pot with a spout for making tea
napkin|a piece of cloth or paper for wiping your mouth
tablecloth|a cloth that covers a table
*butter|a soft yellow food made from cream
*cheese|a solid food made from milk
*flour|a fine powder made by grinding wheat
*yeast|a tiny living thing that makes bread rise
*dough|a soft mixture of flour and water
batter|a thin mixture of flour, eggs and milk
*garlic|a small bulb with a very strong taste
*vinegar|a sour liquid used in salads
*honey|a sweet, sticky food made by bees
*jam|a sweet spread made of fruit and sugar
*syrup|a thick and sweet liquid
sauce|a thick liquid that is poured over food
gravy|a hot brown sauce made from meat juices
broth|a thin soup made by boiling meat or vegetables
stew|a dish of meat and vegetables cooked slowly in liquid
salad|a cold dish of mixed vegetables
dessert|the sweet dish at the end of a meal
starter|a small dish at the beginning of a meal
snack|a little food between meals
picnic|a meal eaten outdoors on the grass
feast|a very large meal for many guests
vegetarian|a person who does not eat meat
slice|a thin flat piece cut from something
crumb|a very small piece of bread or cake
pinch|the small amount you can hold between two fingers
dozen|a group of twelve
kitchen|the room where people cook
bedroom|the room where people sleep
bathroom|the room where people wash
attic|the room under the roof of a house
cellar|the room under a house
balcony|a small platform outside an upstairs window
chimney|the pipe that carries smoke out of a house
stairs|the steps between the floors of a house
lift|a machine that carries people up and down a building
corridor|a long passage with doors to many rooms
curtain|a cloth that hangs in front of a window
carpet|a thick cover for the floor
pillow|a soft cushion for your head in bed
blanket|a warm cover for a bed
mirror|a piece of glass in which you can see yourself
drawer|a box that slides in and out of a desk
shelf|a flat board on a wall for books or cups
cupboard|a piece of furniture with doors for keeping things
wardrobe|a tall cupboard for clothes
candle|a stick of wax that gives light
lamp|a thing that gives light
torch|a small electric light that you hold in your hand
match|a small stick for lighting a fire
key|a piece of metal that opens a lock
lock|a thing that keeps a door shut
ladder|two poles with steps between them for climbing
bucket|a round container with a handle for carrying water
broom|a brush with a long handle for sweeping floors
sponge|a soft thing full of holes for washing
soap|a thing that you use with water for washing
towel|a cloth for drying yourself
needle|a thin, pointed piece of metal for sewing
thread|a thin string for sewing
button|a small round thing that fastens clothes
zip|two rows of teeth that fasten clothes
pocket|a small bag sewn into clothes
umbrella|a round cover on a stick that keeps off the rain
wallet|a small flat case for money and cards
purse|a small bag for coins
coin|a round piece of metal money
receipt|a paper that shows what you have paid
bill|a paper that shows how much you must pay
discount|an amount taken off the price
customer|a person who buys things in a shop
neighbour|a person who lives near you
guest|a person who is invited to your home
stranger|a person whom you do not know
orphan|a child whose parents are dead
twin|one of two children born on the same day
widow|a woman whose husband is dead
bride|a woman on her wedding day
bachelor|a man who is not married
ancestor|a person in your family who lived long ago
wedding|a ceremony in which two people marry
birthday|the day of the year on which you were born
funeral|a ceremony for someone who has died
holiday|a time when you do not work or go to school
festival|a time of public celebration
concert|a performance of music
orchestra|a large group of musicians who play together
choir|a group of people who sing together
audience|the people who watch or listen to a show
stage|the raised place where actors perform
rehearsal|a practice before a show
novel|a long story in a book
poem|a piece of writing with rhythm and often with rhymes
diary|a book in which you write what happens each day
dictionary|a book that explains the meaning of words
encyclopedia|a book or set of books about many subjects
newspaper|large sheets of paper with the news
magazine|a thin book with pictures that appears every week or month
letter|a written message that is sent in an envelope
envelope|a paper cover for a letter
stamp|a small piece of paper that you stick on a letter
parcel|a thing wrapped in paper and sent by post
dentist|a doctor who looks after teeth
surgeon|a doctor who performs operations
patient|a person who is treated by a doctor
hospital|a place where sick people are treated
ambulance|a vehicle that takes sick people to hospital
medicine|something you take to get well
bandage|a strip of cloth that covers a wound
fever|a body temperature that is too high
cough|a sudden noisy push of air from the throat
allergy|an illness caused by something that is harmless to others
thermometer|an instrument that measures temperature
microscope|an instrument that makes tiny things look large
telescope|an instrument that makes faraway things look near
magnet|a piece of iron that pulls other iron towards it
battery|an object that stores electricity
engine|a machine that makes a vehicle move
wheel|a round thing that turns under a car or cart
anchor|a heavy hook that keeps a ship in one place
oar|a pole with a flat end for rowing a boat
sail|a large cloth that catches the wind and moves a boat
raft|a flat boat made of logs
deck|the floor of a ship
cabin|a small room on a ship, or a small wooden house
crew|the people who work on a ship or a plane
captain|the person in charge of a ship or a team
pirate|a robber who attacks ships at sea
treasure|a store of gold, jewels or other precious things
orchard|a field where fruit trees grow
vineyard|a field where grapes grow
greenhouse|a glass house where plants are kept warm
hedge|a row of bushes around a field or garden
fence|a wall of wood or wire around a piece of land
gate|a door in a fence or wall
barn|a farm building for hay and animals
stable|a building where horses are kept
tractor|a strong vehicle that works on a farm
plough|a farm tool that turns over the soil
scarecrow|a figure in a field that frightens birds away
harvest|the time when crops are gathered
crop|a plant that a farmer grows for food
seed|the small part of a plant from which a new plant grows
root|the part of a plant that grows under the ground
stem|the part of a plant that holds up the leaves
petal|one of the coloured parts of a flower
blossom|the flowers on a tree in spring
acorn|the nut of an oak tree
feather|one of the light things that cover a bird
beak|the hard mouth of a bird
nest|the home that a bird builds for its eggs
flock|a group of birds or sheep
herd|a group of cows or other large animals
swarm|a large group of flying insects
shell|the hard cover of an egg, a nut or a sea animal
fur|the soft hair of an animal
paw|the foot of a cat or a dog
tail|the part at the back end of an animal
hoof|the hard foot of a horse or a cow
cloud|a mass of tiny drops of water in the sky
*fog|thick cloud close to the ground
*hail|frozen rain that falls as hard balls
*frost|a thin layer of ice that forms on cold nights
*dew|small drops of water that form on grass at night
*lightning|a bright flash of electricity in the sky
*thunder|the loud noise that follows lightning
storm|very bad weather with strong wind and rain
breeze|a light and gentle wind
hurricane|a violent storm with very strong winds
rainbow|an arch of colours in the sky after rain
puddle|a small pool of rain water
flood|a great amount of water that covers dry land
drought|a long time without rain
earthquake|a sudden shaking of the ground
avalanche|a mass of snow that slides down a mountain
eclipse|a time when the moon hides the sun
comet|a ball of ice and dust with a bright tail in space
planet|a large round body that moves around a star
star|a huge ball of burning gas in space
galaxy|a group of many millions of stars
orbit|the path of a planet around a star
horizon|the line where the sky seems to meet the land or sea
shadow|a dark shape made when something blocks the light
echo|a sound that comes back from a wall or a hill
dawn|the time when the sun rises
dusk|the time just before night
midnight|twelve o'clock at night
noon|twelve o'clock in the day
century|a period of one hundred years
decade|a period of ten years
fortnight|a period of two weeks
calendar|a chart of the days and months of a year
alphabet|all the letters of a language in order
sentence|a group of words that makes complete sense
noun|a word that names a person, place or thing
verb|a word for an action or a state
adjective|a word that describes a noun
vowel|one of the letters a, e, i, o and u
question|a sentence that asks something
triangle|a flat shape with three sides
square shape|a flat shape with four equal sides
circle|a perfectly round flat shape
cube|a solid shape with six square sides
diameter|a straight line through the middle of a circle
half|one of two equal parts
quarter|one of four equal parts
average|the usual or middle amount
democracy|a country whose people choose their government
election|an event in which people vote
president|the elected leader of a country
mayor|the leader of a town
parliament|the group of people who make the laws of a country
law|a rule that everyone in a country must follow
tax|money that people pay to the government
judge|a person who decides in a court of law
witness|a person who sees a crime or an accident
thief|a person who steals
prison|a building where criminals are locked up
army|a large group of soldiers
*peace|a time without war
*courage|the strength to do something frightening
*patience|the ability to wait calmly
*honesty|the habit of telling the truth
*kindness|the habit of being gentle and helpful
*wisdom|good judgement that comes from experience
*curiosity|the wish to know or learn something
*gratitude|the feeling of being thankful
*jealousy|the unhappy wish to have what others have
*loneliness|the sad feeling of being alone
*friendship|the bond between people who like each other
promise|words that say you will surely do something
secret|something that only a few people know
rumour|a story that is passed around and may not be true
joke|a short story that makes people laugh
riddle|a tricky question with a clever answer
proverb|a short old saying that gives advice
hobby|something you enjoy doing in your free time
habit|something you do often and almost without thinking
mistake|something done in the wrong way
problem|something difficult that has to be solved
opinion|what someone thinks about something
decision|a choice made after thinking
*advice|words that tell someone what would be good to do
*weather|the rain, wind, cold or sunshine outdoors
*climate|the usual weather of a place
*electricity|the power that makes lamps and machines work
*gravity|the force that pulls things down to the ground
*oxygen|the gas in the air that we need to breathe
*energy|the power to do work or to move
*steam|the hot mist that rises from boiling water
*smoke|the grey cloud that comes from a fire
*rust|the red-brown coat that forms on wet iron
*leather|a strong material made from animal skin
*cotton|a soft cloth made from a plant
*wool|the soft hair of sheep
*silk|a smooth, shiny cloth made by silkworms
*clay|soft earth that becomes hard when it is baked
*glass|a hard, clear material made from sand
*concrete|a hard building material of cement, sand and stones
"""
THING_QUESTIONS = """
What is {0:a}? / What does the word {0} mean? / What does "{0}" mean? / Define the word {0}.
  / Can you explain what {0:a} is? / Explain the word {0}. => {0:a} is {1}.
What do you call {1}? / What is the word for {1}? / Which word means {1}? => The word for {1} is {0}.
"""
THING_STORY = "{0:a} is {1}."

ACTIONS = """
simmer|cook gently just below boiling
boil|heat a liquid until it bubbles
fry|cook in hot oil or butter
roast|cook in an oven with a little fat
bake|cook bread or cakes in an oven
grill|cook under or over strong direct heat
steam|cook in the hot mist from boiling water
poach|cook gently in water that hardly moves
chop|cut into pieces with a knife
slice|cut into thin flat pieces
dice|cut into small cubes
peel|take off the skin
grate|rub into shreds on a rough tool
mash|crush until soft
stir|move round and round with a spoon
whisk|beat quickly so that air goes in
knead|press and fold dough with the hands
drain|pour the water away
season|add salt, pepper or herbs
marinate|leave in a sauce before cooking
garnish|decorate a dish before serving
taste|try the flavour of
thaw|become soft again after being frozen
melt|turn from solid into liquid
freeze|turn from liquid into ice
pour|make a liquid flow out of a container
spread|cover a surface with a thin layer
sprinkle|scatter small drops or grains over something
serve|put food on the table for someone
book|arrange to have a seat or a room later
depart|leave a place at the start of a journey
arrive|reach a place
board|get on a train, a ship or a plane
explore|travel through a place to learn about it
wander|walk around without a plan
hike|walk a long way in the country
stroll|walk slowly for pleasure
hurry|move quickly because time is short
cancel|say that a planned thing will not happen
delay|make something happen later
declare|say something clearly and officially
exchange|give one thing and get another
rent|pay to use something for a time
borrow|take something and promise to give it back
lend|give something to someone for a time
repair|make a broken thing work again
polish|rub until it shines
sweep|clean the floor with a broom
scrub|rub hard with a brush
rinse|wash in clean water without soap
fold|bend so that one part covers another
sew|join cloth with a needle and thread
knit|make clothes from wool with two long needles
weave|make cloth by crossing threads
carve|cut wood or stone into a shape
sketch|make a quick drawing
whisper|speak very quietly
shout|speak very loudly
mumble|speak in an unclear way
argue|disagree in angry words
apologise|say that you are sorry
forgive|stop being angry with someone
praise|say that someone has done well
blame|say that someone caused a bad thing
encourage|give someone hope and confidence
comfort|make a sad person feel better
warn|tell someone about a danger
invite|ask someone to come
refuse|say no to something
promise|say that you will surely do something
admit|say that something is true although you do not like it
pretend|act as if something were true
imagine|make a picture in your mind
remember|keep something in your mind
forget|fail to keep something in your mind
decide|make a choice after thinking
compare|look at how things are alike or different
measure|find out the size of something
estimate|guess an amount carefully
predict|say what will happen
discover|find something for the first time
invent|make something that did not exist before
investigate|try to find out the truth about something
search|look carefully for something
hide|put something where nobody can see it
chase|run after someone to catch them
escape|get away from danger
rescue|save from danger
protect|keep safe from harm
destroy|break so badly that nothing is left
collect|bring things together from many places
gather|bring together in one place
share|let others have a part of something
divide|split into parts
multiply|add a number to itself many times
subtract|take one number from another
increase|become larger in number or size
reduce|make smaller
vanish|go out of sight suddenly
appear|come into sight
float|stay on top of the water
sink|go down under the water
dive|jump into water with the head first
climb|go up with hands and feet
crawl|move on hands and knees
stumble|nearly fall while walking
tremble|shake with fear or cold
yawn|open the mouth wide because you are tired
sneeze|blow air suddenly through the nose
sigh|breathe out slowly in a sad or tired way
giggle|laugh in a silly way
weep|cry quietly
frown|pull the eyebrows together when angry or puzzled
stare|look at something for a long time
glance|look at something quickly
glow|give a soft and steady light
sparkle|shine with many small flashes
flow|move along like water
leak|let liquid out through a hole
drip|fall in drops
burst|break open suddenly
swell|become bigger and rounder
shrink|become smaller
bloom|open as flowers do
plant|put seeds in the ground to grow
harvest|gather the crops
feed|give food to
"""
ACTION_QUESTIONS = """
What does {0} mean? / What does it mean to {0}? / What does "to {0}" mean? / Explain the verb {0}.
  / What do you do when you {0}? => To {0} is to {1}.
Which verb means to {1}? / What is the verb for to {1}? => To {0} is to {1}.
"""

QUALITIES = """
enormous|very big
tiny|very small
ancient|very old
brand-new|completely new
furious|very angry
delighted|very happy
miserable|very unhappy
exhausted|very tired
starving|very hungry
thirsty|in need of a drink
freezing|very cold
boiling|very hot
spotless|perfectly clean
filthy|very dirty
delicious|very good to eat
disgusting|very unpleasant
brilliant|very bright or very clever
foolish|not sensible
hilarious|very funny
tedious|long and boring
precious|very valuable
fragile|easily broken
sturdy|strong and not easily broken
flexible|easily bent
transparent|clear enough to see through
waterproof|not letting water through
slippery|so smooth or wet that you may fall
steep|rising or falling sharply
shallow|not deep
narrow|not wide
crowded|full of people
deserted|empty of people
remote|far from other places
local|belonging to the place nearby
foreign|from another country
rural|of the countryside
urban|of the city
coastal|near the sea
tropical|of the hottest parts of the world
humid|damp and warm
gloomy|dark and sad
cosy|warm and comfortable
spacious|with plenty of room
elegant|graceful and in good taste
shabby|old and in bad condition
luxurious|very comfortable and expensive
cheap|low in price
expensive|high in price
free|without any cost
rare|not often seen
common|often seen
punctual|arriving at the right time
reliable|able to be trusted
stubborn|unwilling to change one's mind
generous|happy to give to others
selfish|thinking only of oneself
modest|not boasting
arrogant|too proud
polite|having good manners
rude|having bad manners
shy|nervous with other people
confident|sure of oneself
anxious|worried and nervous
calm|quiet and not worried
curious|wanting to know
careless|not taking enough care
cautious|taking care to avoid danger
brave|not afraid of danger
cowardly|afraid of danger
loyal|always faithful to friends
greedy|wanting more than one needs
lazy|unwilling to work
diligent|working hard and with care
clumsy|awkward and likely to drop things
skilful|able to do something well
graceful|moving in a beautiful way
drowsy|nearly asleep
alert|wide awake and watchful
dizzy|feeling that everything is turning round
pale|having little colour
vivid|very bright and clear
faint|weak and hard to hear or see
deafening|extremely loud
silent|without any sound
bitter|with a sharp taste like strong coffee
sour|with a sharp taste like lemon
salty|tasting of salt
spicy|with a hot taste like chilli
bland|with little taste
crisp|hard, dry and easily broken
tender|soft and easy to chew
raw|not cooked
ripe|ready to be picked and eaten
rotten|gone bad
stale|no longer fresh
juicy|full of juice
creamy|smooth and thick like cream
crunchy|making a noise when you bite it
fragrant|having a sweet smell
annual|happening once a year
daily|happening every day
weekly|happening every week
permanent|lasting for ever
temporary|lasting only for a short time
sudden|happening quickly and without warning
gradual|happening slowly
essential|absolutely necessary
optional|not necessary
suitable|right for a purpose
identical|exactly the same
similar|nearly the same
various|of several different kinds
"""
QUALITY_QUESTIONS = """
What does {0} mean? / What is the meaning of {0}? / What does the word "{0}" mean? / Explain the word {0}.
  / If something is {0}, what is it like? => The word {0} means {1}.
Which word means {1}? / What is one word for {1}? => The word {0} means {1}.
"""

OPPOSITES = """
hot|cold; big|small; tall|short; long|brief; wide|narrow; thick|thin; heavy|light; fast|slow; high|low
deep|shallow; old|young; new|used; early|late; day|night; morning|evening; summer|winter; north|south
east|west; left|right; up|down; in|out; inside|outside; above|below; over|under; near|far; here|there
front|back; top|bottom; first|last; begin|finish; start|stop; open|closed; push|pull; come|go; arrive|depart
buy|sell; give|take; lend|borrow; win|lose; find|misplace; remember|forget; love|hate; laugh|cry; smile|frown
ask|answer; speak|listen; shout|whisper; rise|fall; float|sink; freeze|melt; fill|empty; full|hungry
clean|dirty; wet|dry; smooth|rough; hard|soft; strong|weak; loud|quiet; noisy|silent; bright|dim; dark|pale
black|white; sweet|sour; fresh|stale; raw|cooked; ripe|unripe; sharp|blunt; straight|crooked; tight|loose
rich|poor; cheap|expensive; generous|mean; happy|sad; glad|sorry; brave|cowardly; bold|timid; polite|rude
kind|cruel; gentle|harsh; friendly|hostile; clever|stupid; wise|foolish; lazy|hard-working; careful|careless
calm|nervous; patient|impatient; honest|dishonest; healthy|sick; alive|dead; awake|asleep; tired|rested
beautiful|ugly; safe|dangerous; easy|difficult; simple|complicated; possible|impossible; true|false
correct|wrong; good|bad; better|worse; best|worst; more|less; many|few; always|never; often|seldom
everything|nothing; everybody|nobody; everywhere|nowhere; same|different; before|after; past|future
ancient|modern; yesterday|tomorrow; sunrise|sunset; noon|midnight; birth|death; friend|enemy; host|guest
teacher|pupil; buyer|seller; king|queen; husband|wife; brother|sister; uncle|aunt; boy|girl; man|woman
father|mother; son|daughter; nephew|niece; parent|child; hero|villain; war|peace; heaven|hell; victory|defeat
success|failure; profit|loss; question|reply; problem|solution; beginning|end; entrance|exit
departure|arrival; increase|decrease; expand|shrink; add|subtract; multiply|divide; include|exclude
accept|refuse; allow|forbid; agree|disagree; appear|disappear; build|destroy; create|ruin; attack|defend
praise|blame; reward|punish; lock|unlock; tie|untie; pack|unpack; dress|undress; cover|reveal; hide|show
save|spend; gather|scatter; visible|invisible; public|private; permanent|temporary; natural|artificial
urban|rural; local|foreign; rare|common; major|minor; maximum|minimum; positive|negative; active|passive
single|married; empty|crowded; mild|severe; tame|wild; solid|liquid; vertical|horizontal; transparent|opaque
guilty|innocent; proud|humble; optimistic|pessimistic
"""
OPPOSITE_QUESTIONS = """
What is the opposite of {0}? / What's the opposite of {0}? / Give me the opposite of {0}.
  / Which word is the opposite of {0}? / What word means the opposite of {0}? / {0}: what is its opposite?
  => The opposite of {0} is {1}.
What is the opposite of {1}? / What's the opposite of {1}? / Give me the opposite of {1}.
  / Which word is the opposite of {1}? / What word means the opposite of {1}? / {1}: what is its opposite?
  => The opposite of {1} is {0}.
"""

SYNONYMS = """
big|large; small|little; happy|cheerful; sad|unhappy; angry|cross; quick|rapid; fast|swift; slow|unhurried
clever|intelligent; stupid|silly; pretty|lovely; beautiful|gorgeous; ugly|unattractive; rich|wealthy
poor|needy; brave|courageous; afraid|frightened; scared|terrified; tired|weary; ill|unwell; sick|ill
strong|powerful; weak|feeble; funny|amusing; boring|dull; strange|odd; weird|peculiar; easy|simple
hard|difficult; old|elderly; new|recent; begin|start; end|finish; stop|cease; shut|close; buy|purchase
sell|trade; help|assist; fix|mend; break|smash; choose|select; pick|choose; look|gaze; see|notice
watch|observe; hear|listen; talk|chat; speak|talk; say|state; shout|yell; cry|weep; laugh|chuckle; smile|grin
walk|stroll; run|sprint; jump|leap; hurry|rush; wander|roam; throw|toss; catch|grab; hold|grip; pull|tug
carry|transport; build|construct; make|create; cut|chop; cook|prepare; eat|dine; drink|sip; sleep|doze
rest|relax; think|ponder; guess|suppose; know|understand; learn|study; teach|instruct; love|adore; like|enjoy
hate|detest; want|desire; need|require; get|obtain; keep|retain; give|donate; send|post; show|display
hide|conceal; find|discover; lose|misplace; answer|reply; ask|inquire; tell|inform; allow|permit
gift|present; friend|companion; enemy|foe; house|home; road|street; path|track; shop|store; car|automobile
trip|journey; picture|image; story|tale; idea|thought; mistake|error; danger|peril; fear|dread; job|work
holiday|vacation; autumn|fall; rubbish|litter; noise|sound; rock|stone; forest|wood; sea|ocean; stream|brook
wind|breeze; child|youngster; huge|gigantic; tiny|minute; cold|chilly; hot|scorching; wet|soaked; dry|parched
quiet|peaceful; loud|noisy; tasty|delicious; famous|well-known; important|significant; correct|right
wrong|incorrect; kind|caring; rude|impolite; calm|tranquil; messy|untidy; neat|tidy; certain|sure
usual|normal; often|frequently; nearly|almost; maybe|perhaps
"""
SYNONYM_QUESTIONS = """
What is another word for {0}? / Give me another word for {0}. / Which word means the same as {0}?
  / What word is similar to {0}? / What can I say instead of {0}? => Another word for {0} is {1}.
"""

PLURALS = """
child|children; man|men; woman|women; foot|feet; tooth|teeth; goose|geese; mouse|mice; person|people; ox|oxen
leaf|leaves; loaf|loaves; knife|knives; wife|wives; life|lives; wolf|wolves; shelf|shelves; half|halves
calf|calves; thief|thieves; scarf|scarves; elf|elves; hoof|hooves; sheep|sheep; deer|deer; fish|fish
salmon|salmon; trout|trout; cod|cod; aircraft|aircraft; potato|potatoes; tomato|tomatoes; hero|heroes
echo|echoes; cactus|cacti; fungus|fungi; mango|mangoes; larva|larvae; oasis|oases; crisis|crises
policeman|policemen; fireman|firemen; postman|postmen; fisherman|fishermen; fry|fry; passer-by|passers-by
mosquito|mosquitoes; volcano|volcanoes; quiz|quizzes; moose|moose; grandchild|grandchildren
housewife|housewives; penknife|penknives; tuna|tuna; carp|carp; pike|pike; buffalo|buffaloes; squid|squid
moth|moths; roof|roofs; chief|chiefs; cliff|cliffs; piano|pianos; photo|photos; radio|radios
stomach|stomachs
"""
PLURAL_QUESTIONS = """
What is the plural of {0}? / What's the plural of {0}? / What is the plural form of {0}?
  / How do you write more than one {0}? / One {0}, two what? => The plural of {0} is {1}.
"""

PAST_TENSES = """
be|was; have|had; do|did; go|went; come|came; get|got; give|gave; take|took; make|made; say|said; tell|told
see|saw; know|knew; think|thought; find|found; buy|bought; bring|brought; catch|caught; teach|taught
fight|fought; seek|sought; eat|ate; drink|drank; sing|sang; ring|rang; sink|sank; swim|swam; begin|began
run|ran; sit|sat; stand|stood; lie|lay; write|wrote; ride|rode; drive|drove; rise|rose; speak|spoke
break|broke; steal|stole; choose|chose; freeze|froze; wake|woke; wear|wore; tear|tore; bear|bore; swear|swore
draw|drew; grow|grew; throw|threw; blow|blew; fly|flew; keep|kept; sleep|slept; sweep|swept; weep|wept
creep|crept; feel|felt; kneel|knelt; leave|left; meet|met; feed|fed; lead|led; read|read; lose|lost
send|sent; spend|spent; lend|lent; bend|bent; build|built; burn|burnt; dream|dreamt; learn|learnt
smell|smelt; spell|spelt; spill|spilt; cut|cut; put|put; hit|hit; let|let; shut|shut; set|set; hurt|hurt
cost|cost; burst|burst; spread|spread; split|split; hear|heard; hold|held; hang|hung; dig|dug; stick|stuck
win|won; shine|shone; shoot|shot; sell|sold; pay|paid; lay|laid; forget|forgot; forgive|forgave; hide|hid
bite|bit; fall|fell; shake|shook; mistake|mistook; understand|understood; become|became; overcome|overcame
light|lit; slide|slid; spin|spun; swing|swung; sting|stung; cling|clung; bind|bound; grind|ground; wind|wound
weave|wove; shrink|shrank; sew|sewed; show|showed; mow|mowed; sow|sowed; swell|swelled; knit|knitted
strike|struck; deal|dealt; mean|meant
"""
PAST_QUESTIONS = """
What is the past tense of {0}? / What's the past of {0}? / Give me the past tense of {0}. => The past tense of
  {0} is {1}.
"""

# -------------------------------------------------------------------------------------- everyday facts

JOBS = """
baker|bakes bread and cakes|in a bakery|an oven
butcher|cuts and sells meat|in a butcher's shop|a sharp knife
chef|cooks meals for guests|in a restaurant|pots and pans
waiter|brings food and drinks to the guests|in a restaurant|a tray
farmer|grows crops and keeps animals|on a farm|a tractor
gardener|looks after plants and flowers|in a garden|a spade and a rake
fisherman|catches fish|on a boat|a net
florist|sells flowers|in a flower shop|ribbon and scissors
grocer|sells fruit, vegetables and other food|in a grocery|a pair of scales
teacher|helps pupils to learn|in a school|books and a board
professor|teaches students and does research|in a university|books
doctor|helps sick people to get well|in a hospital|a stethoscope
nurse|cares for patients|in a hospital|bandages and a thermometer
dentist|looks after teeth|in a dental surgery|a small drill
surgeon|performs operations|in a hospital|a scalpel
pharmacist|prepares and sells medicines|in a pharmacy|bottles and scales
vet|treats sick animals|in an animal clinic|a syringe and bandages
carpenter|makes things from wood|in a workshop|a hammer and a saw
plumber|repairs pipes and taps|in people's houses|a spanner
electrician|fits wires and lamps|in buildings|a screwdriver
painter|paints walls or pictures|in a studio|a brush
builder|builds houses|on a building site|bricks and cement
bricklayer|builds walls of bricks|on a building site|a trowel
architect|designs buildings|in an office|a ruler and a computer
engineer|designs machines, roads and bridges|in an office|drawings and a computer
mechanic|repairs cars and engines|in a garage|a spanner
blacksmith|shapes hot iron|in a forge|a hammer and an anvil
potter|makes pots and bowls from clay|in a pottery|a wheel
tailor|makes and alters clothes|in a tailor's shop|a needle and thread
shoemaker|makes and mends shoes|in a workshop|leather and glue
hairdresser|cuts and styles hair|in a salon|scissors and a comb
barber|cuts men's hair and beards|in a barber's shop|a razor
jeweller|makes and sells rings and necklaces|in a jewellery shop|fine pliers
watchmaker|repairs watches and clocks|in a workshop|a magnifying glass
photographer|takes pictures|in a studio|a camera
journalist|writes articles for newspapers|in an office|a notebook
author|writes books|in a study|a pen or a computer
poet|writes poems|in a quiet room|a pen
librarian|lends books and helps readers|in a library|a catalogue
musician|plays music|in a concert hall|an instrument
conductor|leads an orchestra|in a concert hall|a baton
singer|sings songs|on a stage|a microphone
actor|plays parts in plays or films|in a theatre|a costume
dancer|dances for an audience|in a theatre|soft shoes
clown|makes people laugh|in a circus|a red nose
magician|performs magic tricks|in a theatre|a wand and a hat
sculptor|makes statues|in a studio|a chisel
pilot|flies aeroplanes|in an aeroplane|the controls in the cockpit
sailor|works on a ship|on a ship|ropes and sails
captain|commands a ship|on a ship|a compass and charts
driver|drives a bus, a lorry or a taxi|in a vehicle|a steering wheel
porter|carries luggage|in a hotel or a station|a trolley
receptionist|welcomes visitors and answers the telephone|in a hotel|a telephone
postman|delivers letters and parcels|in the streets|a bag and a bicycle
police officer|protects people and catches thieves|in a police station|a whistle and a radio
detective|solves crimes|in a police station|a notebook and clues
firefighter|puts out fires|in a fire station|a hose and a ladder
soldier|defends the country|in an army camp|a uniform and a radio
judge|decides cases in court|in a court|law books
lawyer|gives advice about the law|in an office|law books
banker|looks after people's money|in a bank|a computer
accountant|keeps records of money|in an office|a calculator
cashier|takes the money from customers|in a shop|a till
secretary|writes letters and plans meetings|in an office|a keyboard
scientist|does experiments to learn about the world|in a laboratory|a microscope
astronomer|studies the stars and planets|in an observatory|a telescope
geologist|studies rocks|in the mountains|a small hammer
archaeologist|digs up things from the past|in old ruins|a small brush and a trowel
miner|digs coal or metal out of the ground|in a mine|a pickaxe and a lamp
lumberjack|cuts down trees|in a forest|an axe and a chainsaw
beekeeper|looks after bees and collects honey|in a field of hives|a veil and a smoker
shepherd|looks after sheep|on a hillside|a stick and a dog
zookeeper|feeds and cares for zoo animals|in a zoo|a bucket and a broom
lifeguard|watches over swimmers|on a beach or a pool|a whistle
athlete|trains and takes part in competitions|in a stadium|running shoes
referee|makes sure that players follow the rules|on a sports field|a whistle
coach|trains a team|on a sports field|a stopwatch
astronaut|travels into space|on a spacecraft|a space suit
programmer|writes instructions for computers|in an office|a computer
cleaner|keeps rooms clean|in offices and hotels|a mop and a bucket
chimney sweep|cleans chimneys|on roofs|a long brush
translator|turns texts from one language into another|in an office|dictionaries
tour guide|shows visitors around|in museums and old towns|a map and a flag
weaver|makes cloth|in a workshop|a loom
brewer|makes beer|in a brewery|large copper tanks
"""
JOB_QUESTIONS = """
What does {0:a} do? / What is the job of {0:a}? / What do {0:s} do? / What is the work of {0:a}?
  / Tell me what {0:a} does. => {0:a} {1}.
Who {1}? / Which person {1}? / What do you call a person who {1}? => {0:a} {1}.
Where does {0:a} work? / Where do {0:s} work? / In what place does {0:a} work? => {0:a} works {2}.
What does {0:a} use? / Which tools does {0:a} need? / What does {0:a} work with? => {0:a} uses {3}.
"""
JOB_STORY = "{0:a} {1}. The work needs {3}."

TOOLS = """
hammer|driving nails into wood
saw|cutting wood
screwdriver|turning screws
spanner|tightening nuts and bolts
drill|making holes
axe|chopping firewood
shovel|moving earth or snow
spade|digging the garden
rake|gathering leaves
hoe|removing weeds
watering can|watering plants
wheelbarrow|carrying soil and stones
lawnmower|cutting the grass
broom|sweeping the floor
mop|washing the floor
vacuum cleaner|sucking up dust
duster|wiping dust from furniture
iron|making clothes smooth
washing machine|washing clothes
needle|sewing
ruler|measuring and drawing straight lines
tape measure|measuring lengths
pair of scales|weighing things
thermometer|measuring temperature
clock|telling the time
calendar|finding the date
compass|finding the direction
map|finding the way
telescope|looking at the stars
microscope|looking at very small things
camera|taking photographs
calculator|working out sums
computer|writing, calculating and finding information
printer|printing documents
telephone|talking to people far away
torch|seeing in the dark
umbrella|keeping dry in the rain
raincoat|keeping dry in wet weather
helmet|protecting the head
parachute|falling slowly from the sky
anchor|keeping a ship in one place
oar|rowing a boat
key|opening a lock
corkscrew|opening a bottle of wine
tin opener|opening tins
kettle|boiling water
toaster|making toast
whisk|beating eggs
sieve|separating lumps from flour
grater|shredding cheese
peeler|taking the skin off vegetables
rolling pin|making dough flat
knife|cutting food
fork|picking up food
spoon|eating soup
ladle|serving soup
colander|draining pasta
chopping board|protecting the table while you cut
measuring jug|measuring liquids
pepper mill|grinding pepper
oven glove|holding hot dishes
fridge|keeping food cold
pillow|resting the head in bed
blanket|keeping warm
towel|drying the body
comb|tidying the hair
toothbrush|cleaning the teeth
razor|shaving
mirror|looking at yourself
pencil|writing and drawing
eraser|removing pencil marks
envelope|sending a letter
stamp|paying for the post
ladder|reaching high places
rope|tying and pulling things
candle|giving light without electricity
bandage|covering a wound
fishing rod|catching fish
net|catching fish or butterflies
backpack|carrying things on your back
trolley|moving heavy bags
"""
TOOL_QUESTIONS = """
What is {0:a} used for? / What is {0:a} for? / What do we use {0:a} for? / Why do people need {0:a}?
  / What can you do with {0:a}? => {0:a} is used for {1}.
What do you use for {1}? / Which thing is used for {1}? / What do I need for {1}? => You use {0:a} for {1}.
"""

COLOURS = """
the sky|blue; *grass|green; *snow|white; *coal|black; *blood|red; the sun|yellow; *milk|white
*chocolate|brown; lemon|yellow; banana|yellow; strawberry|red; tomato|red; carrot|orange; pumpkin|orange
lime|green; cucumber|green; cherry|red; aubergine|purple; *broccoli|green; pea|green; plum|purple
blueberry|blue; *lettuce|green; *spinach|green; elephant|grey; mouse|grey; frog|green; crow|black; swan|white
flamingo|pink; polar bear|white; canary|yellow; fox|red and brown; ladybird|red with black spots
zebra|black and white; panda|black and white; tiger|orange and black; sunflower|yellow; daffodil|yellow
poppy|red; violet|purple; daisy|white and yellow; *lavender|purple; *gold|yellow; *silver|grey
*copper|reddish brown; *rust|reddish brown; emerald|green; ruby|red; sapphire|blue; pearl|white; the sea|blue
storm cloud|dark grey; *sand|light yellow; *soil|brown; tree trunk|brown; *night|black; *ash|grey
*salt|white; *sugar|white; *flour|white; *honey|golden; *butter|yellow; *coffee|dark brown; *tea|brown
*cream|white; egg yolk|yellow; *rice|white; *cinnamon|brown; *mustard|yellow; *ketchup|red
*olive oil|golden green; *garlic|white
"""
COLOUR_QUESTIONS = """
What colour is {0:a}? / What is the colour of {0:a}? / Which colour does {0:a} have? / What color is {0:a}?
  / Tell me the colour of {0:a}. => {0:a} is {1}.
"""

MATERIALS = """
bottle|glass or plastic; window|glass; table|wood; chair|wood; book|paper; newspaper|paper; envelope|paper
shirt|cotton; jumper|wool; scarf|wool or silk; pair of jeans|strong cotton; shoe|leather; belt|leather
wallet|leather; ring|gold or silver; necklace|gold or pearls; coin|metal; key|metal; nail|iron or steel
knife|steel; pan|iron or steel; brick|baked clay; cup|china or clay; plate|china; vase|glass or clay
flowerpot|clay; tile|baked clay; candle|wax; tyre|rubber; ball|rubber or leather; rope|strong fibres
tent|canvas; sail|strong cloth; basket|willow or straw; pencil|wood and graphite; eraser|rubber; door|wood
fence|wood or wire; bridge|stone or steel; statue|stone or bronze; pillow|cloth and feathers; blanket|wool
towel|cotton; raincoat|waterproof cloth; igloo|blocks of snow; bell|bronze; violin|wood; trumpet|brass
drum|wood and skin; sandcastle|sand; snowman|snow; bucket|metal or plastic; ladder|wood or metal
"""
MATERIAL_QUESTIONS = """
What is {0:a} made of? / What material is {0:a} made of? / What are {0:s} made of?
  / Which material do you need to make {0:a}? => {0:a} is made of {1}.
"""

FOODS = """
*bread|flour, water, salt and yeast
*butter|cream
*cheese|milk
*yogurt|milk
omelette|eggs and butter
pancake|flour, eggs and milk
*toast|slices of bread
sandwich|bread with a filling
*pizza|dough, tomato sauce and cheese
*pasta|flour, water and sometimes eggs
*jam|fruit and sugar
*marmalade|oranges and sugar
*chocolate|cocoa beans, sugar and milk
*wine|grapes
*beer|barley, hops and water
*cider|apples
*lemonade|lemons, sugar and water
*olive oil|pressed olives
*flour|ground wheat
*sugar|sugar cane or sugar beet
*vinegar|sour wine or cider
*mayonnaise|egg yolks, oil and lemon juice
*mustard|crushed mustard seeds and vinegar
*ketchup|tomatoes, vinegar and sugar
*porridge|oats and milk or water
*popcorn|heated grains of maize
*tofu|soya beans
*hummus|chickpeas, sesame paste, lemon and garlic
*guacamole|avocados, lime and onion
*pesto|basil, nuts, cheese, garlic and olive oil
*custard|milk, eggs and sugar
*ice cream|cream, sugar and eggs
meringue|egg whites and sugar
*pastry|flour, butter and a little water
*gravy|meat juices and flour
*tomato soup|tomatoes, onions and broth
*vegetable soup|vegetables, herbs and broth
*onion soup|onions, butter and broth
*mashed potato|boiled potatoes, butter and milk
*risotto|rice, broth, onion and cheese
*paella|rice, saffron, vegetables and seafood
*lasagne|sheets of pasta, meat sauce and cheese
*goulash|beef, onions and paprika
*sushi|rice, fish and seaweed
*curry|vegetables or meat with many spices
*ratatouille|aubergines, courgettes, peppers and tomatoes
*fruit salad|pieces of mixed fresh fruit
apple pie|apples, sugar and pastry
cheesecake|soft cheese, sugar and crushed biscuits
sponge cake|flour, butter, sugar and eggs
*gingerbread|flour, honey and ginger
*salad dressing|oil, vinegar, salt and mustard
"""
FOOD_QUESTIONS = """
What is {0:a} made from? / What is in {0:a}? / What do you need to make {0:a}? / What goes into {0:a}?
  / Which ingredients are in {0:a}? => {0:a} is made from {1}.
What can you make from {1}? / What can I cook with {1}? => You can make {0:a} from {1}.
"""

SHOPS = """
bread|a bakery; cakes|a bakery; meat|a butcher's shop; sausages|a butcher's shop; fish|a fish market
vegetables|a market; fruit|a market; milk|a grocery; cheese|a cheese shop; flowers|a flower shop
medicine|a pharmacy; books|a bookshop; newspapers|a newsagent's; stamps|a post office; shoes|a shoe shop
clothes|a clothes shop; jewellery|a jeweller's; toys|a toy shop; furniture|a furniture shop
tools|a hardware shop; nails|a hardware shop; glasses|an optician's; petrol|a petrol station
train tickets|a railway station; bus tickets|a bus station; plane tickets|a travel agency or online
stationery|a stationer's; paint|a hardware shop; sweets|a sweet shop; coffee|a café; dinner|a restaurant
theatre tickets|a box office; postcards|a souvenir shop; pets|a pet shop; plants|a garden centre
spices|a market or a grocery; wine|a wine shop; chairs|a furniture shop; bicycles|a bicycle shop
"""
SHOP_QUESTIONS = """
Where can I buy {0}? / Where do you buy {0}? / Where can you get {0}? / Which place sells {0}?
  / Where should I go to buy {0}? => You can buy {0} at {1}.
"""

BODY = """
eyes|see; ears|hear; nose|smell; tongue|taste food; teeth|bite and chew; legs|walk and run
feet|stand and walk; hands|hold and touch things; fingers|pick up small things; knees|bend our legs
elbows|bend our arms; skin|feel; brain|think and remember; lungs|breathe; heart|pump blood round the body
stomach|digest food; muscles|move; bones|hold up the body; lips|speak and kiss; throat|swallow
eyelids|close our eyes; shoulders|carry loads; neck|turn our heads; thumb|grip things; liver|clean the blood
kidneys|remove waste from the blood
"""
BODY_QUESTIONS = """
What do we use our {0} for? / What do our {0} do? / What is the use of our {0}? => We use our {0} to {1}.
Which part of the body do we use to {1}? / What do we use to {1}? => We use our {0} to {1}.
"""

SPORTS = """
football|two teams kick a ball towards a goal|eleven players
basketball|players throw a ball through a high ring|five players
volleyball|players hit a ball over a high net with their hands|six players
rugby|players carry an oval ball over a line|fifteen players
cricket|players hit a small hard ball with a flat bat|eleven players
baseball|players hit a ball with a round bat and run to bases|nine players
ice hockey|skaters hit a flat puck with sticks|six players
tennis|players hit a ball over a net with rackets|one or two players
badminton|players hit a feathered shuttlecock with rackets|one or two players
table tennis|players hit a light ball over a small net on a table|one or two players
golf|players hit a small ball into holes with clubs|one player
swimming|people race through water|one swimmer
rowing|people move a narrow boat with oars|up to eight rowers
sailing|people race boats driven by the wind|a small crew
cycling|people race on bicycles|one rider
skiing|people slide down snowy slopes on two long boards|one skier
skating|people glide over ice|one skater
boxing|two people fight with padded gloves|one boxer
judo|two people try to throw each other to the floor|one fighter
fencing|two people fight with thin swords|one fencer
archery|people shoot arrows at a target|one archer
gymnastics|people balance, swing and tumble|one gymnast
surfing|people ride waves on a board|one surfer
climbing|people go up walls or rocks with ropes|one or more climbers
chess|two players move pieces on a board of squares|one player
darts|players throw small arrows at a round board|one player
"""
SPORT_QUESTIONS = """
How do you play {0}? / What happens in {0}? / What is {0}? / Explain {0}. => In {0}, {1}.
How many players are in a side in {0}? / How many people are on a side in {0}?
  => A side in {0} has {2}.
In which sport do we see this: {1}? / What is the game called in which {1}? => In {0}, {1}.
"""

PLANETS = """
Mercury|the smallest planet|the first planet from the sun
Venus|the hottest planet|the second planet from the sun
Earth|the planet on which we live|the third planet from the sun
Mars|the red planet|the fourth planet from the sun
Jupiter|the largest planet|the fifth planet from the sun
Saturn|the planet with the brightest rings|the sixth planet from the sun
Uranus|the planet that spins on its side|the seventh planet from the sun
Neptune|the planet with the strongest winds|the eighth planet from the sun
"""
PLANET_QUESTIONS = """
Which planet is {1}? / What is {1} called? / Name {1}. / What is {1}? => {0} is {1}.
Which planet is {2}? / What is {2}? / Name {2}. => {0} is {2}.
What is {0}? / Tell me about {0}. / What do you know about {0}? => {0} is {1}. It is {2}.
"""

UNITS = """
seconds|minute|sixty; minutes|hour|sixty; hours|day|twenty-four; days|week|seven; months|year|twelve
days|year|three hundred and sixty-five; weeks|year|fifty-two; years|decade|ten; years|century|one hundred
centimetres|metre|one hundred; metres|kilometre|one thousand; millimetres|centimetre|ten
grams|kilogram|one thousand; kilograms|tonne|one thousand; millilitres|litre|one thousand
teaspoons|tablespoon|three; inches|foot|twelve; cents|dollar|one hundred; pence|pound|one hundred
eggs|dozen|twelve; sides|triangle|three; sides|square|four; corners|cube|eight; sides|hexagon|six
legs|chair|four; wheels|bicycle|two; wheels|car|four; wheels|tricycle|three; strings|violin|four
strings|guitar|six; letters|the alphabet|twenty-six; seasons|year|four; minutes|quarter of an hour|fifteen
days|fortnight|fourteen; players|football team|eleven; keys|piano|eighty-eight; fingers|hand|five
toes|foot|five; squares|chessboard|sixty-four; colours|the rainbow|seven
days|leap year|three hundred and sixty-six; arms|octopus|eight; stars|the flag of Europe|twelve
sides|pentagon|five; sides|octagon|eight
"""
UNIT_QUESTIONS = """
How many {0} are there in {1:a}? / How many {0} does {1:a} have? / How many {0} are in {1:a}?
  / What is the number of {0} in {1:a}? / How many {0} make up {1:a}? => {1:a} has {2} {0}.
"""

# Anything else: question / other phrasing => answer.
ANSWERS = """
Hello! / Hi there! / Good morning! / Hey! / Good evening! => Hello! How can I help you?
How are you? / How are you today? / How is it going? => I am very well, thank you. How can I help you?
Thank you! / Thanks a lot. / Many thanks! / Thank you for your help. => You are welcome!
Goodbye! / Bye! / See you later. / Good night! => Goodbye! Have a nice day.
Who are you? / What are you? / What is your name? / Tell me about yourself. => I am a small language model. I
  answer simple questions.
Are you a person? / Are you human? / Are you real? => No, I am a computer program that answers questions.
What can you do? / How can you help me? / What do you know? => I can answer simple questions about everyday
  things.
Tell me a joke. / Do you know a joke? / Say something funny. => Why did the tomato turn red? Because it saw
  the salad dressing.
Who wrote Romeo and Juliet? / Which writer wrote Romeo and Juliet? / Who is the author of Hamlet? => It was
  written by William Shakespeare.
Who painted the Mona Lisa? / Which artist painted the Mona Lisa? => Leonardo da Vinci painted the Mona Lisa.
Who was the first person on the moon? / Who first walked on the moon? => Neil Armstrong was the first person
  on the moon.
What is the largest ocean? / Which ocean is the biggest? / Name the largest ocean. => The Pacific Ocean is the
  largest ocean.
What is the largest continent? / Which continent is the biggest? => Asia is the largest continent.
What is the smallest continent? / Which continent is the smallest? => Australia is the smallest continent.
How many continents are there? / What is the number of continents? => There are seven continents.
Name the continents. / What are the continents called? / List the seven continents. => The continents are
  Africa, Antarctica, Asia, Australia, Europe, North America and South America.
What is the highest mountain? / Which mountain is the highest in the world? / What is the tallest mountain? =>
  Mount Everest is the highest mountain in the world.
What is the longest river in Africa? / Which river in Africa is the longest? => The Nile is the longest river
  in Africa.
What is the largest country? / Which country is the biggest in the world? => Russia is the largest country.
What is the smallest country? / Which country is the smallest in the world? => Vatican City is the smallest
  country.
How many planets are there? / How many planets go around the sun? => Eight planets go around the sun.
What is the sun? / What kind of body is the sun? => The sun is a star that gives us light and warmth.
What is the moon? / What goes around the Earth? => The moon is a ball of rock that goes around the Earth.
Why is the sky blue? / Why does the sky look blue? => The air scatters blue light more than red light, so the
  sky looks blue.
Why do we have day and night? / What causes day and night? => The Earth turns round once a day, so we face the
  sun and then turn away from it.
Why do we have seasons? / What causes the seasons? => The Earth is tilted as it goes around the sun, so each
  half gets more light for part of the year.
Why does it rain? / Where does rain come from? => Water rises from the sea as vapour, cools into clouds and
  falls as rain.
What is snow made of? / What are snowflakes made of? => Snow is made of tiny crystals of ice.
Why do leaves fall in autumn? / Why do trees lose their leaves? => Trees drop their leaves to save water in
  winter.
What do plants need? / What do plants need to grow? / What does a flower need to live? => Plants need light,
  water, air and good soil.
At what temperature does water boil? / When does water boil? / What is the boiling point of water? => Water
  boils at one hundred degrees Celsius.
At what temperature does water freeze? / When does water freeze? / What is the freezing point of water? =>
  Water freezes at zero degrees Celsius.
What is ice? / What does water become when it freezes? => Ice is frozen water.
What is steam made of? / What does water become when it boils? => When water boils, it turns into steam.
What do we breathe? / Which gas do we need to breathe? => We need the oxygen in the air to breathe.
Does the sun rise in the east? / Where does the sun rise? / In which direction does the sun rise? => The sun
  rises in the east.
Where does the sun set? / In which direction does the sun set? => The sun sets in the west.
What do you get when you mix blue and yellow? / Which colour do blue and yellow make? => Blue and yellow make
  green.
What do you get when you mix red and yellow? / Which colour do red and yellow make? => Red and yellow make
  orange.
What do you get when you mix red and blue? / Which colour do red and blue make? => Red and blue make purple.
What do you get when you mix black and white? / Which colour do black and white make? => Black and white make
  grey.
What are the colours of the rainbow? / Name the colours of the rainbow. / Which colours are in a rainbow? =>
  The colours of the rainbow are red, orange, yellow, green, blue, indigo and violet.
What are the seasons? / Name the four seasons. / What are the four seasons of the year? => The four seasons
  are spring, summer, autumn and winter.
What are the days of the week? / Name the days of the week. / List the days of the week. => The days are
  Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.
What are the five senses? / Name the five senses. => The five senses are sight, hearing, smell, taste and
  touch.
Which month has the fewest days? / What is the shortest month? => February is the shortest month.
When is New Year's Day? / What is the first day of the year? => New Year's Day is the first of January.
When is Christmas Day? / On which date is Christmas? => Christmas Day is the twenty-fifth of December.
Which days are the weekend? / What days make up the weekend? => Saturday and Sunday are the weekend.
How do I boil an egg? / How do you boil an egg? / How can I cook an egg in water? / Tell me how to boil an
  egg. => Put the egg into boiling water. Wait six minutes for a soft egg or ten minutes for a hard egg.
How do I fry an egg? / How do you fry an egg? / Tell me how to fry an egg. => Heat a little butter in a pan,
  break the egg into it and cook it until the white is firm.
How do I make tea? / How do you make a cup of tea? / Tell me how to make tea. => Pour boiling water over the
  tea leaves, wait three minutes and take the leaves out.
How do I make coffee? / How do you make coffee? => Pour hot water slowly over ground coffee in a filter.
How do I cook rice? / How do you cook rice? / Tell me how to cook rice. => Rinse the rice, add twice as much
  water, cover the pot and simmer it for fifteen minutes.
How do I cook pasta? / How do you cook pasta? / Tell me how to cook pasta. => Boil plenty of salted water, add
  the pasta, cook it for about ten minutes and drain it.
How do I make toast? / How do you make toast? => Put slices of bread into a toaster until they are golden
  brown.
How do I make a salad? / How do you make a salad? => Wash and cut the vegetables, then mix them with oil,
  vinegar and salt.
How do I make an omelette? / How do you make an omelette? => Beat three eggs with salt, pour them into a hot
  buttered pan and fold the omelette when it is nearly set.
How do I make pancakes? / How do you make pancakes? => Mix flour, eggs and milk into a batter and fry thin
  rounds of it in butter.
How do I make vegetable soup? / How do you make vegetable soup? => Fry a chopped onion, add cut vegetables and
  broth, and simmer everything until it is soft.
How do I bake bread? / How do you bake bread? => Knead flour, water, salt and yeast into a dough, let it rise
  and bake it in a hot oven.
How do I bake potatoes? / How do you bake a potato? => Wash the potatoes, prick them with a fork and bake them
  for one hour.
How do I chop an onion? / How do you cut an onion? => Peel it, cut it in half and slice each half both ways.
How do I peel garlic? / How do you peel garlic? => Press the clove with the flat side of a knife, and the skin
  will come off easily.
How do I keep bread fresh? / How can bread stay fresh? => Keep it in a bread box or a cloth bag, and freeze
  what you cannot eat soon.
How do I keep milk fresh? / Where should I keep milk? => Keep milk in the fridge and close the bottle well.
How do I know if an egg is fresh? / How can you test an egg? => Put it in cold water. A fresh egg sinks and an
  old egg floats.
What can I do with stale bread? / How can I use old bread? => You can make toast, crumbs or bread pudding from
  it.
My soup is too salty, what can I do? / How do I save a salty soup? => Add some water or a few pieces of
  potato.
How do I clean a window? / How do you clean windows? => Wash the glass with warm water and a little soap, then
  dry it with a soft cloth.
How do I wash clothes? / How do you wash clothes by hand? => Use warm water and soap, rub gently, rinse well
  and hang them up to dry.
How do I remove a wine stain? / How do you get a wine stain out? => Put salt on it at once, wait a little and
  wash it in cold water.
How do I clean a burnt pan? / How can I clean a burnt pot? => Fill it with hot water and baking soda, leave it
  overnight and scrub it.
How do I sew on a button? / How do you sew on a button? => Push the needle up and down through the holes
  several times and tie the thread.
How do I iron a shirt? / How do you iron a shirt? => Begin with the collar, then do the sleeves, the back and
  the front.
How do I change a light bulb? / How do you change a bulb? => Switch off the light, let the bulb cool, unscrew
  it and screw in a new one.
How do I unblock a sink? / How do you unblock a drain? => Pour in baking soda and vinegar, wait, and rinse
  with hot water.
How do I save energy at home? / How can we use less electricity? => Switch off lamps and machines that you do
  not need.
How do I save water? / How can we use less water? => Turn off the tap while you brush your teeth and take
  short showers.
How do I plant a tree? / How do you plant a tree? => Dig a wide hole, set the roots in it, fill it with soil
  and water it well.
How do I grow tomatoes? / How do you grow tomatoes? => Plant them in a sunny place, water them often and tie
  them to sticks.
How often should I water plants? / When do I water my plants? => Water them when the top of the soil feels
  dry.
How do I wrap a present? / How do you wrap a gift? => Fold paper around the box, stick it with tape and tie a
  ribbon.
How do I send a letter? / How do you post a letter? => Write the address on the envelope, add a stamp and put
  it in a letter box.
How do I cross a road safely? / How should I cross the street? => Stop, look both ways, listen, and cross when
  nothing is coming.
How do I find my way in a new city? / What should I do if I am lost? => Look at a map or ask a friendly person
  the way.
How do I buy a train ticket? / Where do I get a train ticket? => Buy it at the counter, from a machine or
  online.
How do I pack a suitcase? / How should I pack for a trip? => Make a list, roll your clothes and put heavy
  things at the bottom.
What should I take on a trip? / What do I need for a journey? => Take your passport, some money, clothes and a
  toothbrush.
What should I take to the beach? / What do I need at the seaside? => Take a towel, a swimsuit, a hat and sun
  cream.
What should I wear in winter? / What do people wear when it is cold? => Wear a warm coat, a scarf, a hat and
  gloves.
What should I wear in summer? / What do people wear when it is hot? => Wear light clothes and a hat.
What should I take for a hike? / What do I need for a walk in the mountains? => Take strong shoes, water,
  food, a map and a rain jacket.
When should I arrive at the airport? / How early should I be at the airport? => Arrive two or three hours
  before the flight.
What do I need to travel abroad? / Which papers do I need in a foreign country? => You need a passport and
  sometimes a visa.
How can I learn a language? / How do I learn a new language? => Practise a little every day, read simple texts
  and speak with people.
How can I remember new words? / How do I learn words? => Write them down, repeat them often and use them in
  sentences.
What do you say when you meet someone? / How do you greet a person politely? => Say hello and smile.
What do you say when you want something? / What is the polite word when you ask for something? => Say please.
What do you say when you get a gift? / What should I say for a present? => Say thank you.
What do you say when you make a mistake? / What should I say when I hurt someone? => Say that you are sorry.
What should I do when I sneeze? / What is polite when you cough? => Cover your mouth and nose with your elbow
  or a tissue.
Is it polite to interrupt people? / Should I interrupt others? => No, let people finish before you speak.
How should I behave at table? / What are good table manners? => Wash your hands, wait for the others and do
  not speak with your mouth full.
How should I behave in a library? / Can I be loud in a library? => Be quiet in a library, because people want
  to read.
What should I bring when I am invited to dinner? / What is a good gift for a host? => Flowers or a box of
  chocolates are a good gift.
How do I stay healthy? / What keeps people healthy? / How can I be healthy? => Eat fruit and vegetables, move
  every day, sleep well and drink water.
How much should I sleep? / How many hours should an adult sleep? => Adults should sleep seven to nine hours a
  night.
How often should I brush my teeth? / When do I brush my teeth? => Brush your teeth twice a day.
Why should I wash my hands? / When should I wash my hands? => Wash your hands before meals, because soap
  removes germs.
What should I do for a cold? / What helps against a cold? => Rest, keep warm and drink plenty of warm tea.
What helps against a headache? / What should I do when my head hurts? => Drink water, rest in a dark room and
  get some fresh air.
What should I do when I cut my finger? / How do I treat a small cut? => Wash the cut, press it with a clean
  cloth and put a plaster on it.
What should I do for a burn? / How do I treat a small burn? => Hold it under cool running water for ten
  minutes.
What helps against a cough? / What should I drink for a sore throat? => Warm tea with honey helps.
What should I do if there is a fire? / What do I do in a fire? => Leave the building at once and call the fire
  brigade.
Whom do I call in an emergency? / What should I do after an accident? => Call the emergency number and ask for
  help.
Is it healthy to smoke? / Is smoking good for you? => No, smoking harms the lungs and the heart.
Is too much sugar bad for you? / Is sugar bad for teeth? => Yes, too much sugar harms the teeth.
How can I protect my skin from the sun? / What prevents sunburn? => Use sun cream, wear a hat and stay in the
  shade at noon.
How can I fall asleep? / What helps me to sleep? => Go to bed at the same time, keep the room dark and put
  your phone away.
How can I calm down? / What should I do when I am angry? => Breathe slowly, count to ten and go for a short
  walk.
How can I make friends? / How do I find new friends? => Be friendly, ask questions, listen well and join a
  club.
How can I cheer up a friend? / What should I do when a friend is sad? => Listen to your friend and spend time
  together.
What do you need to make a cake? / What goes into a simple cake? => You need flour, butter, sugar and eggs.
What is a healthy breakfast? / What should I eat in the morning? => Porridge with fruit is a healthy
  breakfast.
What do people eat for breakfast? / Name some breakfast foods. => People eat bread, eggs, fruit or porridge
  for breakfast.
What is a good snack? / What can I eat between meals? => An apple or a handful of nuts is a good snack.
What goes well with fish? / What can I serve with fish? => Lemon, potatoes and green salad go well with fish.
What goes well with pasta? / What can I put on pasta? => Tomato sauce, garlic, basil and cheese go well with
  pasta.
What do birds build for their eggs? / Where do birds lay their eggs? => Birds lay their eggs in nests.
Where do fish live? / What lives in water and has fins? => Fish live in water.
Where does milk come from? / Who gives us milk? => Milk comes from cows.
Where does wool come from? / Who gives us wool? => Wool comes from sheep.
Where does honey come from? / How is honey made? => Bees make honey from the nectar of flowers.
Where does paper come from? / What is paper made from? => Paper is made from wood.
Where does wood come from? / What gives us wood? => Wood comes from trees.
Where does salt come from? / How do we get salt? => Salt comes from the sea and from mines.
Where does coffee come from? / Where does coffee grow? => Coffee grows on bushes in warm countries.
Where does silk come from? / Which insect makes silk? => Silk comes from silkworms.
Where do potatoes grow? / Do potatoes grow on trees? => Potatoes grow under the ground.
Where do apples grow? / What grows on an apple tree? => Apples grow on trees.
Where do grapes grow? / What grows in a vineyard? => Grapes grow on vines.
Which animal is the largest? / What is the biggest animal? => The blue whale is the largest animal.
Which animal is the tallest? / What is the tallest animal? => The giraffe is the tallest animal.
Which bird cannot fly? / Name a bird that cannot fly. => The penguin cannot fly.
Can penguins fly? / Do penguins fly? => No, penguins cannot fly, but they swim very well.
Can fish breathe under water? / Do fish breathe under water? => Yes, fish breathe under water with their
  gills.
Do spiders have six legs? / Is a spider an insect? => No, a spider has eight legs and is not an insect.
Is a whale a fish? / Are whales fish? => No, a whale is a mammal.
Is a tomato a fruit? / Is a tomato a vegetable? => A tomato is a fruit, but cooks use it as a vegetable.
Is the Earth flat? / What shape is the Earth? => The Earth is round like a ball.
Is the sun a planet? / Is the sun a star? => The sun is a star.
Is ice hot? / Is ice cold? => Ice is cold.
Is fire cold? / Is fire hot? => Fire is hot.
Can people live without water? / Do people need water? => People need water to live.
What is the first letter of the alphabet? / Which letter comes first? => The first letter is A.
What is the last letter of the alphabet? / Which letter comes last? => The last letter is Z.
What are the vowels? / Name the vowels. => The vowels are A, E, I, O and U.
What is the number after nine? / Which number comes after nine? => The number after nine is ten.
Are you able to feel pain? / Do you have feelings? => No, I am only a computer program.
What time do people have lunch? / When do people eat lunch? => Most people have lunch at about noon.
What is the meal in the morning called? / What do you call the first meal of the day? => The first meal is
  breakfast.
What is the meal in the evening called? / What do you call the last meal of the day? => The evening meal is
  called dinner.
"""

# Each scale goes from little to much: name of "more", items.
SCALES = """
bigger|ant, bee, mouse, rat, rabbit, cat, fox, dog, wolf, sheep, lion, cow, horse, hippopotamus, elephant,
  whale
smaller|whale, elephant, rhinoceros, horse, pig, goat, dog, cat, hedgehog, mouse, beetle, ladybird, ant
faster|snail, tortoise, person, bicycle, horse, car, train, aeroplane, rocket
slower|rocket, aeroplane, train, car, horse, bicycle, person, tortoise, snail
heavier|feather, letter, apple, book, brick, suitcase, sofa, car, lorry, ship
lighter|ship, lorry, car, piano, chair, melon, lemon, grape, feather
longer|second, minute, hour, day, week, month, year, decade, century
shorter|century, year, month, week, day, hour, minute, second
hotter|*ice, *cold water, *warm milk, *boiling water, *hot coals, fire, star
larger|cottage, house, village, town, city, country, continent, planet
more expensive|match, pencil, loaf of bread, book, bicycle, car, house, palace
deeper|puddle, pond, lake, sea, ocean
older|baby, child, teenager, adult, grandparent
wider|path, lane, street, avenue, motorway
louder|*silence, whisper, voice, shout, trumpet, *thunder
harder|*butter, *cheese, *wood, *stone, *steel, diamond
"""
SCALE_QUESTIONS = """
Which is {0}, {1:a} or {2:a}? / Which is {0}, {2:a} or {1:a}? / What is {0}, {2:a} or {1:a}?
  / What is {0}, {1:a} or {2:a}? / {1:a} or {2:a}: which is {0}? => {2:a} is {0} than {1:a}.
Is {2:a} {0} than {1:a}? => Yes, {2:a} is {0} than {1:a}.
Is {1:a} {0} than {2:a}? => No, {2:a} is {0} than {1:a}.
"""

# Names in order; each list is a circle: after the last comes the first.
CIRCLES = """
day|Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday
month|January, February, March, April, May, June, July, August, September, October, November, December
season|spring, summer, autumn, winter
"""
CIRCLE_QUESTIONS = """
What {0} comes after {1}? / Which {0} comes after {1}? / What is the {0} after {1}? / Which {0} follows {1}?
  => {2} comes after {1}.
What {0} comes before {2}? / Which {0} comes before {2}? / What is the {0} before {2}?
  => {1} comes before {2}.
"""
NUMBER_WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
SUM_QUESTIONS = """
What is {0} plus {1}? / How much is {0} plus {1}? / What is {0} and {1}? / {0} + {1} = ? / Add {0} and {1}.
  => {0} plus {1} is {2}.
What is {2} minus {1}? / How much is {2} minus {1}? / {2} - {1} = ? / Take {1} from {2}.
  => {2} minus {1} is {0}.
"""
MULTIPLY_QUESTIONS = """
What is {0} times {1}? / How much is {0} times {1}? / {0} x {1} = ? / Multiply {0} by {1}.
  => {0} times {1} is {2}.
"""
NUMBER_QUESTIONS = """
Which number comes after {0}? / What comes after {0}? / What number follows {0}? => {1} comes after {0}.
Which number comes before {1}? / What comes before {1}? / What number is before {1}? => {0} comes before {1}.
"""

# ------------------------------------------------------------------------- plain text: scenes and words

# place | things there | people there | what people do there (the first word is the verb)
SCENES = """
in the kitchen|oven, saucepan, wooden spoon, cutting board, sharp knife, kettle, apron, bowl, recipe
  book|cook, grandmother, baker|chop the onions, stir the soup, peel the potatoes, melt the butter, wash the
  lettuce, season the stew, roll out the dough, squeeze a lemon, grate the cheese, taste the sauce, light the
  stove
in the bakery|loaf of bread, tray of rolls, sack of flour, wooden shovel, cake, basket, oven|baker,
  apprentice, customer|knead the dough, weigh the flour, heat the oven, sell a warm loaf, dust the table with
  flour, decorate a birthday cake, count the rolls, slice the bread, order a poppy seed bun
at the market|stall, crate of apples, bunch of grapes, basket of eggs, pair of scales, cheese, pile of
  melons|trader, farmer, shopper, fishmonger|weigh the tomatoes, bargain over the price, taste a strawberry,
  choose a ripe melon, fill a bag with beans, shout the prices, pay with small coins, carry the heavy basket
  home
in the restaurant|menu, table by the window, white tablecloth, candle, plate of noodles, wine glass,
  bill|waiter, chef, guest, critic|order the soup of the day, read the menu, reserve a table, pour the wine,
  fold the napkins, leave a generous tip, recommend the grilled fish, complain about the cold potatoes, share
  a dessert
in the café|cup of coffee, newspaper, slice of cake, sugar bowl, round table, counter, teapot|waitress,
  student, writer|sip a hot chocolate, read the headlines, stir the coffee, order another pastry, chat with a
  neighbour, wipe the tables, write in a notebook, wait for a friend
at the railway station|platform, timetable, ticket machine, suitcase, bench, clock, express train, waiting
  room|guard, traveller, ticket inspector, porter|buy a return ticket, check the timetable, miss the train,
  wave goodbye, carry the luggage, ask for the right platform, wait for the connection, run for the last train
on the train|window seat, carriage, compartment, luggage rack, tunnel, ticket, sandwich|passenger, conductor,
  commuter|look out of the window, show the ticket, read a thriller, fall asleep, share some biscuits, lift
  the suitcase onto the rack, watch the fields go by, change at the next stop
at the airport|passport, boarding pass, suitcase, runway, gate, security check, trolley|pilot, tourist,
  customs officer, flight attendant|check in two bags, show the passport, queue for an hour, board the plane,
  collect the luggage, miss the flight, wave to the pilot, weigh the suitcase, hurry to the gate
in the hotel|key card, lobby, lift, double room, reception desk, balcony, breakfast buffet,
  towel|receptionist, guest, maid, bellboy|book a quiet room, unpack the bags, ask for the bill, make the
  beds, ring the bell, complain about the noise, check out after breakfast, leave the key at the desk, enjoy
  the view
in the museum|painting, marble statue, glass case, ancient vase, mummy, skeleton, entrance ticket,
  gallery|guide, visitor, curator, painter|admire the portraits, study an old map, join a guided tour, sketch
  a statue, buy a postcard, read the labels, leave the umbrella at the cloakroom, follow the guide
in the old town|narrow lane, cobbled street, church tower, fountain, town hall, archway, souvenir
  shop|tourist, street musician, mayor, guide|photograph the cathedral, wander through the lanes, climb the
  tower, search for a cheap hostel, listen to a violin, cross the square, ask the way to the castle, admire
  the roofs
by the river|stone bridge, rowing boat, willow tree, fishing rod, ferry, bank, duck, island|fisherman,
  boatman, painter, child|cross the bridge, cast the net, feed the ducks, row upstream, wait for the ferry,
  throw flat stones into the water, swim to the other side, repair an old boat, catch a silver trout
in the harbour|fishing boat, anchor, crane, lighthouse, cargo ship, net, rope, quay|sailor, captain,
  fisherman, dock worker|mend the nets, load the ship, paint the boat, unload the barrels, tie up the yacht,
  sail at dawn, watch the gulls, sell fresh mackerel, raise the anchor
at sea|sail, mast, compass, storm, island, lifeboat, wave, cabin|captain, cook, sailor, passenger|steer by the
  stars, hoist the sail, scrub the deck, spot a whale, fight the storm, study the charts, call another ship,
  drift for days
on the beach|sandcastle, shell, towel, deckchair, bucket, parasol, ice cream, wave|lifeguard, surfer, child,
  ice-cream seller|build a sandcastle, collect shells, dig a deep hole, jump over the waves, lie in the sun,
  play with a ball, fly a kite, rinse the sand off, rent a parasol
in the mountains|hut, rope, summit, glacier, trail, rucksack, cable car, chalet|climber, guide, skier,
  shepherd|climb the steep path, reach the top, follow the trail, rest on a rock, tie the rope, ski down the
  slope, fill the flask at a spring, shelter from the storm, admire the view
in the forest|oak tree, mushroom, squirrel, clearing, log, path, owl, deer|hunter, forester, woodcutter,
  hiker|gather mushrooms, follow the tracks of a deer, chop some firewood, listen to the birds, pick
  blackberries, lose the way, hide behind a tree, build a small hut, light a campfire
on the farm|barn, tractor, haystack, gate, field of wheat, cow, hen house, plough|farmer, milkmaid, vet,
  farmhand|milk the cows, feed the chickens, drive the tractor, plough the field, gather the eggs, mend the
  fence, harvest the corn, shear the sheep, stack the hay, lead the horse to the stable
in the garden|rose bush, spade, watering can, greenhouse, hedge, flower bed, wheelbarrow, apple tree|gardener,
  neighbour, grandfather|water the roses, dig up the carrots, pull out the weeds, plant some tulips, trim the
  hedge, rake the leaves, pick a ripe pear, mow the lawn, spread the compost, sow some beans
in the park|bench, playground, swing, pond, path, fountain, statue, lawn|jogger, child, nanny, pensioner|jog
  around the pond, push the swing, walk the dog, play chess on a bench, feed the pigeons, throw a frisbee,
  enjoy a picnic, ride a scooter
in the classroom|blackboard, desk, exercise book, globe, map, ruler, piece of chalk, pencil case|teacher,
  pupil, headmaster|write on the blackboard, raise a hand, spell a difficult word, learn a poem by heart,
  solve the sum, correct the homework, sharpen a pencil, whisper an answer, draw a map of Europe, explain the
  rule
in the library|shelf, novel, reading lamp, catalogue, armchair, dictionary, dusty book|librarian, reader,
  scholar, student|borrow a novel, return the books, whisper to a friend, search the shelves, copy a
  paragraph, look up a strange word, study for an exam, renew the card
at the university|lecture hall, laboratory, notebook, experiment, professor's office, canteen,
  degree|professor, student, researcher|take notes, attend a lecture, write an essay, discuss the theory, pass
  the exam, measure the results, repeat the experiment, give a talk
in the hospital|bed, bandage, thermometer, wheelchair, corridor, operating room, medicine, ambulance|doctor,
  nurse, patient, surgeon|take the temperature, bandage the wound, visit a sick friend, push the wheelchair,
  examine the patient, prescribe some pills, comfort the child, wash both hands
at the dentist's|chair, drill, mirror, appointment, magazine, toothbrush|dentist, patient, assistant|open the
  mouth wide, fill a tooth, rinse with water, sit in the waiting room, explain how to brush well, cancel the
  appointment
in the pharmacy|bottle of syrup, box of pills, plaster, prescription, ointment, counter|pharmacist, customer,
  patient|ask for cough drops, read the label, count the tablets, hand over the prescription, recommend an
  ointment
in the bank|counter, safe, account, cheque, coin, banknote, cash machine|cashier, manager, customer,
  robber|open an account, exchange some dollars, sign the form, withdraw a hundred euros, count the banknotes,
  ask for a loan, lock the safe
at the post office|parcel, stamp, envelope, letter box, form, counter|clerk, postman, customer|send a parcel,
  stick a stamp on the envelope, weigh the package, fill in the form, collect a registered letter, write the
  address
in the supermarket|trolley, shelf, freezer, till, carton of milk, tin of beans, shopping list, jar of
  honey|cashier, shopper, manager|push the trolley, compare the prices, forget the sugar, queue at the till,
  pay by card, pack the bags, look for the yeast, return the empty bottles
in the clothes shop|mirror, dress, wool coat, pair of trousers, leather belt, silk scarf, hanger, changing
  room|tailor, shop assistant, customer|try on a jacket, choose a blue shirt, ask for a larger size, exchange
  the gloves, shorten the sleeves, admire the hat, pay in cash
in the workshop|hammer, saw, vice, plank, nail, drill, bench, pot of glue|carpenter, apprentice, inventor|saw
  the plank, hammer in a nail, polish the table, measure the board, repair a broken chair, glue the handle,
  sharpen the chisel, build a bookcase, invent a strange machine
in the garage|engine, spare tyre, spanner, oil can, bonnet, battery, brake|mechanic, driver, apprentice|change
  the tyre, check the brakes, repair the engine, fill up the oil, tow the car, tighten the bolts, test the
  battery
in the factory|conveyor belt, machine, crane, warehouse, crate, switch, chimney|worker, engineer,
  foreman|start the machine, pack the crates, inspect the goods, repair the conveyor belt, load the lorry,
  join a strike, wear a helmet
at the office|desk, keyboard, printer, meeting room, calendar, telephone, report|secretary, manager,
  accountant, colleague|answer the telephone, print the report, arrange a meeting, send an email, drink a
  quick coffee, sign the contract, finish the project, file the documents
on the building site|crane, brick, ladder, cement mixer, scaffold, helmet, wheelbarrow|builder, bricklayer,
  architect|lay the bricks, mix the cement, climb the scaffold, study the plans, carry a heavy beam, paint the
  ceiling, dig the foundations
in the theatre|stage, curtain, costume, spotlight, ticket, mask, balcony seat|actor, director, audience
  member, actress|learn the lines, applaud loudly, rehearse the scene, open the curtain, play the villain, bow
  to the audience, forget the words, buy two seats in the front row
at the concert|violin, trumpet, conductor's baton, stage, programme, drum|singer, violinist, conductor,
  drummer|tune the violin, sing a sad ballad, clap along, beat the drum, play a waltz, listen with closed
  eyes, practise the scale
in the cinema|screen, seat, bag of popcorn, ticket, film, poster|usher, film fan, director|watch a thriller,
  munch popcorn, laugh at the comedy, find a seat in the dark, discuss the ending, queue for tickets
at the circus|tent, trapeze, clown's nose, elephant, ring, drum|clown, acrobat, juggler, lion tamer|juggle
  five balls, walk on the tightrope, tame the lion, ride on one wheel, swing from the trapeze, make the crowd
  laugh
at the zoo|cage, giraffe, monkey, aquarium, penguin, enclosure, map|zookeeper, visitor, schoolchild|feed the
  seals, watch the monkeys, clean the cage, photograph a tiger, count the flamingos, ride on a camel
in the stadium|goal, ball, whistle, trophy, scoreboard, track, flag|referee, goalkeeper, coach, fan|score a
  goal, cheer for the team, blow the whistle, win the trophy, run the last lap, train for the marathon, catch
  the ball, lose the match
at the swimming pool|diving board, towel, ladder, whistle, bathing cap, shower|swimmer, lifeguard,
  beginner|dive into the water, swim twenty lengths, learn the backstroke, splash the others, float on the
  back, hold the breath
in the castle|tower, dungeon, throne, suit of armour, drawbridge, banquet, tapestry, secret passage|king,
  knight, servant, ghost|guard the gate, polish the armour, lower the drawbridge, sit on the throne, defend
  the walls, free the prisoner, hold a feast, hide the crown
in the village|church, well, inn, mill, blacksmith's forge, meadow, bakery|miller, priest, blacksmith,
  innkeeper|draw water from the well, ring the church bell, grind the corn, feed the old horse, welcome the
  stranger, dance at the wedding
in the desert|camel, oasis, tent, sand dune, well, scorpion, caravan|trader, nomad, explorer|lead the camels,
  search for water, rest in the shade, cross the dunes, trade salt for dates, sleep under the stars, cover the
  face
in the jungle|vine, parrot, river, waterfall, hut, snake, monkey|explorer, scientist, guide|paddle a canoe,
  cut a path, study rare orchids, listen to the rain, spot a jaguar, draw a map, sleep in a hammock
in the Arctic|igloo, sledge, polar bear, iceberg, husky, seal|explorer, hunter, scientist|build an igloo,
  drive the sledge, drill a hole in the ice, measure the temperature, photograph the northern lights, melt
  some snow
in space|rocket, space station, satellite, planet, star, control panel|astronaut, engineer, commander|orbit
  the Earth, repair a satellite, float through the cabin, land on the moon, count down to zero, radio the
  ground, observe a comet
at the laboratory|microscope, test tube, flask, experiment, notebook, white coat|scientist, chemist,
  assistant|mix two liquids, look through the microscope, record the results, heat the flask, prove the
  theory, label the samples
at the police station|handcuff, fingerprint, patrol car, clue, witness, cell|detective, inspector, thief,
  witness|arrest the thief, question the witness, solve the mystery, report a stolen bicycle, search for
  clues, write a statement
at the fire station|fire engine, hose, ladder, helmet, alarm, pole|firefighter, chief, volunteer|slide down
  the pole, rescue a cat from a tree, put out the fire, unroll the hose, answer the alarm, climb the ladder
in the courtroom|judge's bench, jury, law book, witness box, verdict|judge, lawyer, witness, accused man|tell
  the truth, defend the client, announce the verdict, ask a sharp question, swear an oath, appeal against the
  sentence
at the campsite|tent, sleeping bag, campfire, lantern, guitar, peg, camping stove|scout, camper, ranger|pitch
  the tent, toast marshmallows, tell a ghost story, gather dry wood, boil some water, sleep under the stars,
  pump up the mattress
in the living room|sofa, television, rug, fireplace, bookcase, curtain, cushion, piano|father, aunt,
  visitor|dust the shelves, light the fire, play the piano, watch the news, knit a scarf, vacuum the carpet,
  hang a picture, draw the curtains
in the bedroom|bed, pillow, alarm clock, wardrobe, lamp, blanket, slipper|mother, child, twin|make the bed,
  set the alarm, fold the blankets, tidy the wardrobe, read a bedtime story, close the shutters, dream about
  dragons
in the bathroom|bath, toothbrush, mirror, bar of soap, shower, towel, sponge|plumber, child, father|brush the
  teeth, fill the bath, shave carefully, comb the hair, repair the tap, mop the floor, hang up the towels
in the attic|trunk, old photograph, spider's web, rocking horse, dusty mirror, birdcage|grandmother, child,
  antique dealer|open the trunk, find a bundle of letters, sweep away the cobwebs, try on old hats, discover a
  forgotten portrait
at the bus stop|bus, shelter, ticket, route map, puddle, kerb|driver, commuter, schoolboy|catch the bus, wait
  in the rain, ask the driver about the fare, hold an umbrella, miss the bus, look at the route map
on the road|lorry, traffic light, roundabout, signpost, petrol station, bicycle, map|driver, cyclist,
  hitchhiker, police officer|fill up with petrol, stop at the red light, overtake a lorry, follow the signs,
  change a flat tyre, turn left, sound the horn, park beside the kerb
at the wedding|bouquet, ring, white dress, cake, band, toast, veil|bride, groom, best man, bridesmaid|exchange
  the rings, throw the bouquet, cut the cake, make a speech, dance a waltz, cry with joy, raise a glass
at the birthday party|candle, balloon, present, paper hat, cake, card|birthday girl, clown, uncle, cousin|blow
  out the candles, unwrap a present, sing a song, burst a balloon, eat too much cake, play hide and seek,
  invite the whole class
at the festival|parade, lantern, firework, costume, drum, food stall, flag|dancer, drummer, spectator|watch
  the fireworks, dance in the street, wear a mask, carry a lantern, taste the local dishes, sing until
  midnight
in the vineyard|grape, barrel, cellar, basket, press, hillside|winemaker, picker, taster|pick the grapes,
  prune the vines, press the fruit, fill the barrels, taste the new wine, lead a tour of the cellar
in the olive grove|olive tree, ladder, net, stone press, jar of oil, donkey|grower, picker, miller|shake the
  branches, spread the nets, press the olives, filter the oil, load the donkey, prune the trees, sort the
  fruit
"""

# symbol: choices, separated by " / "
WORDS = """
adj: old / new / small / big / little / long / heavy / light / broken / dusty / shiny / wooden / expensive /
  cheap / strange / beautiful / ugly / famous / forgotten / empty / colourful / plain / modern / ancient /
  tiny / huge / enormous / useful / useless / valuable / ordinary / remarkable / lovely / splendid / faded /
  polished / crooked / smooth / rough / clean / dirty / narrow / wide / round / bright / dark / red / blue /
  green / yellow / white / black / brown / grey / golden / silver / striped / spotted / elegant / simple /
  solid / fragile / delicate / sturdy / handsome / perfect / curious / familiar / second-hand / precious /
  magnificent / mysterious / practical / comfortable / favourite
mood: happy / sad / tired / hungry / thirsty / excited / nervous / proud / angry / surprised / worried / calm
  / curious / bored / cheerful / lonely / grateful / confused / relieved / jealous / hopeful / shy /
  embarrassed / content / disappointed / delighted / puzzled / impatient / anxious / homesick / sleepy /
  determined / ashamed / astonished / furious / amused
trait: kind / clever / brave / honest / patient / generous / lazy / careful / careless / polite / friendly /
  stubborn / quiet / talkative / wise / gentle / cunning / strict / modest / hard-working / reliable /
  absent-minded / ambitious / loyal / practical / sensible / charming / energetic / elderly / young / tall /
  thin / plump / bald / bearded / well-dressed
how: slowly / quickly / quietly / loudly / carefully / carelessly / happily / sadly / patiently / eagerly /
  gently / bravely / politely / calmly / nervously / proudly / secretly / suddenly / silently / cheerfully /
  angrily / neatly / skilfully / gracefully / hastily / thoughtfully / reluctantly / gladly / firmly / softly
  / briskly / clumsily / seriously
when: in the morning / in the afternoon / in the evening / at noon / at midnight / before breakfast / after
  lunch / at dawn / after dinner / on Monday / on Tuesday / on Wednesday / on Thursday / on Friday / on
  Saturday / on Sunday / last week / yesterday / one day / that night / at the weekend / early in the morning
  / late in the evening / on a rainy day / in spring / in summer / in autumn / in winter / during the holidays
  / at sunset / at eight o'clock / a year later
weather: it was raining heavily / the sun was shining / snow covered the roofs / a cold wind was blowing / fog
  lay over the fields / the sky was grey / it was hot and humid / a storm was coming / the air was fresh and
  clear / the stars were out / thunder rolled in the distance / it was freezing / a gentle breeze moved the
  leaves / the ground was wet / the clouds were low / the moon was full / it was drizzling / frost sparkled on
  the grass / a rainbow stretched across the valley
smell: fresh bread / coffee / wet grass / smoke / roses / fried onions / the sea / old paper / pine trees /
  cinnamon / soap / leather / lavender / roast chicken / oranges / garlic / paint / hay / candle wax / melted
  chocolate / mint / petrol
sound: a bell / laughter / a dog / footsteps / a violin / the wind / a train / voices / thunder / a clock /
  birds / a whistle / a drum / running water / an engine / a crying baby / a distant song / a creaking door /
  a telephone / applause / hooves
said: said / asked / replied / answered / whispered / shouted / explained / added / cried / murmured /
  announced / suggested
reason: there was no time to lose / everyone was waiting / it was getting late / nothing else worked / the
  others were busy / the shop was about to close / dinner was nearly ready / it was a special day / the rain
  had stopped / guests were coming / the old one was lost / the price was fair / a promise is a promise / the
  way was long / nobody knew the answer / the night was cold / the children were asleep / the work had to be
  done / the news was good / it was the last chance
lesson: It is better to ask than to guess / Patience brings its reward / A friend in need is a friend indeed /
  Practice makes perfect / Honesty is the best policy / Many hands make light work / Better late than never /
  Slow and steady wins the race / Look before you leap / All is well that ends well / A good plan saves time /
  Every beginning is hard / Small steps lead far / Kind words cost nothing / Two heads are better than one /
  Where there is a will, there is a way / Haste makes waste / The early bird catches the worm / A stitch in
  time saves nine / Actions speak louder than words / Home is where the heart is
speech: What a lovely day / I have never seen anything like it / Please be careful / We should leave soon / I
  am not sure about that / That is a wonderful idea / Could you help me, please / I told you so / Let us begin
  / It is not my fault / Wait for me / There must be a mistake / I am terribly sorry / Nothing is impossible /
  You are absolutely right / I cannot believe it / We have plenty of time / Do not worry / This is the best I
  have ever tasted / How much does it cost / Who is there / Tell me the truth / I would rather stay here /
  Follow me / It belongs to my sister / That was close / Keep it a secret / We will try again tomorrow / I
  have lost my keys / Somebody has been here before us / Never give up / Mind your head
ending: In the end, everybody was happy / It had been a long but good day / Then they all went home / Nobody
  ever forgot that day / After that, life was quiet again / The next morning, everything looked different /
  From then on, they were good friends / At last there was time to rest / The mystery was never solved / They
  promised to return the next year / That evening they laughed about it / It was a story to tell the
  grandchildren / The lights went out one by one
fruit: apples / bananas / oranges / lemons / pears / peaches / plums / cherries / grapes / strawberries /
  raspberries / blueberries / melons / mangoes / apricots / figs / limes / kiwis / blackberries / gooseberries
  / cranberries / dates
veg: carrots / potatoes / onions / tomatoes / peppers / leeks / courgettes / aubergines / mushrooms / cabbage
  / spinach / celery / peas / green beans / pumpkin / cauliflower / broccoli / turnips / sweet potatoes /
  parsnips / lentils / shallots / fennel / artichokes / asparagus
protein: chicken / beef / lamb / pork / salmon / cod / tuna / prawns / bacon / sausages / turkey / duck /
  lentils / chickpeas / beans / tofu / eggs / ham / trout / veal / mussels / oysters / shrimps / steak /
  chicken breast / minced meat / meatballs
herb: basil / parsley / thyme / rosemary / mint / coriander / dill / oregano / sage / chives / bay leaves /
  tarragon
spice: salt / pepper / paprika / cumin / cinnamon / ginger / nutmeg / turmeric / chilli / saffron / curry
  powder / mustard seeds
fat: olive oil / butter / sunflower oil / sesame oil / lard / margarine
liquid: broth / water / white wine / red wine / coconut milk / cream / milk / tomato juice / cider / stock /
  orange juice
side: rice / pasta / noodles / mashed potatoes / fresh bread / couscous / a green salad / dumplings / toast /
  polenta / chips
cut: chop / slice / dice / mince / grate / peel / trim / shred / quarter / crush / halve
pot: a large pot / a deep pan / a heavy saucepan / a frying pan / a casserole dish / a wok / a cast-iron pan /
  a baking dish
heat: over a low heat / over a medium heat / over a high heat / gently / briskly / under a lid / without a lid
minutes: two minutes / three minutes / five minutes / ten minutes / a quarter of an hour / twenty minutes /
  half an hour / one hour / forty minutes / an hour and a half
look: golden / soft / tender / brown on both sides / crisp / thick and creamy / bubbling / translucent / firm
  / fragrant / melted
dish: soup / stew / curry / casserole / salad / pie / omelette / risotto / pasta dish / stir-fry / roast /
  gratin / tart / goulash / pilaf / chowder / ragout / fritters / lasagne / paella
serve: Serve it hot / Serve it at once / Let it cool before serving / Arrange it on a warm plate / Garnish it
  and serve / Leave it to rest for a few minutes / Store the rest in the fridge / Cut it into slices
vehicle: train / bus / tram / ferry / taxi / underground / night train / coach / rented car / bicycle / boat /
  cable car / shuttle bus
transport: train / bus / tram / ferry / coach / night train / express train
sight: castle / cathedral / museum / old market hall / harbour / botanical garden / royal palace / city wall /
  opera house / art gallery / clock tower / fortress / zoo / aquarium / monastery / lighthouse / town hall /
  Roman theatre / flea market / observatory / university / covered bazaar / war memorial / rose garden /
  waterfront / planetarium / archaeological site
street: Station Road / Market Street / Church Lane / Bridge Street / King Street / Harbour Road / Mill Lane /
  Park Avenue / Castle Hill / Garden Street / River Walk / Long Street / Queen's Square / Baker Street /
  Orchard Road / Temple Street
shop: bakery / post office / pharmacy / bookshop / petrol station / bank / supermarket / hotel / school / café
  / police station / library / hospital / flower shop / tourist office / bicycle shop / church / cinema /
  fountain / theatre
citytrait: lively / quiet / historic / modern / charming / crowded / green / sunny / windy / friendly /
  expensive / affordable / walled / industrial / coastal / mountain / medieval / cosmopolitan / sleepy /
  elegant / multicultural / picturesque
activity: take a boat trip / walk along the river / climb the tower / taste the local cheese / visit the
  market / rent a bicycle / swim in the lake / listen to street music / join a cooking class / watch the
  sunset from the hill / go hiking nearby / try the street food / see a play / explore the back streets /
  relax in the thermal baths / buy handmade pottery / follow the coastal path / take a guided tour / ski in
  winter / browse the antique shops / feed the swans / go snorkelling
price: two / three / four / five / six / seven / eight / nine / ten / twelve / fifteen / twenty / thirty
money: euros / pounds / dollars / francs / crowns
clock: one / two / three / four / five / six / seven / eight / nine / ten / eleven
half: o'clock / thirty / fifteen / forty-five
relative: mother / father / sister / brother / aunt / uncle / cousin / grandmother / grandfather / niece /
  nephew / daughter / son
forecast: sunny / cloudy / rainy / windy / foggy / stormy / snowy / mild / chilly / humid / dry / frosty /
  showery / overcast / bright
region: north / south / east / west / coastal areas / mountains / valleys / islands / capital / lowlands /
  interior
"""

NAMES = {
    "she": "Anna Mary Emma Sophie Olivia Nina Clara Lucy Rosa Julia Alice Helen Maria Laura Grace Irene Zoe "
    "Amina Yuki Priya Ingrid Leila Carmen Hannah Martha Eva Lena Ruth Chloe Fatima",
    "he": "Tom Peter John Paul David Ben Oscar Felix Hugo Martin Daniel Leo Jack Simon Victor George Henry "
    "Omar Ravi Kenji Lars Pablo Marco Adam Samuel Karl Nico Walter Hassan Ivan",
}

# Openings, middles and endings of stories. Sentences are capitalised afterwards.
OPENINGS = """
{when} {name} was {place}.
{when}, {name} and {friend} met {place}.
{name}, {trait:a} {person}, worked {place}.
once upon a time there was {trait:a} {person} called {name}.
{weather}, and {name} was {mood}.
{name} had always wanted to {do}.
there was {adj:a} {thing} {place}.
{place} everything was quiet until {name} arrived.
{name} lived near {adj:a} {thing} and often went there with {friend}.
the {person} {place} was {trait} but {mood}.
when {name} was young, {he} loved to {do}.
nobody knew why the {person} was so {mood} {when}.
it was {name}'s first day {place}.
{name} got up early because {he} had to {do}.
"""
MIDDLES = """
{he} {do:past} {how}.
{he} {do:past} and then {do:past}.
{he} wanted to {do}, but the {thing} was {adj}.
while {weather}, {he} {do:past}.
first {he} {do:past}, then {he} {do:past}.
"{speech}," {said} the {person}.
"{speech}!" {said} {friend}.
"{speech}," {said} {name} {how}.
{friend} {do:past} because {reason}.
the {person} helped {him} to {do}.
there was a smell of {smell}, and somewhere {he} heard {sound}.
beside the {thing} stood {adj:a} {thing}.
{he} looked at the {adj} {thing} and felt {mood}.
although {he} was {mood}, {he} {do:past}.
{he} had never seen such {adj:a} {thing} before.
the {thing} was {adj}, {adj} and very {adj}.
after that, {friend} began to {do}.
if {reason}, why should {he} {do}?
{he} asked the {person} about the {thing}.
the {person}, who was {trait}, {do:past} {when}.
without a word, {friend} {do:past}.
{his} {thing} was as {adj} as the {thing}, or so {he} thought.
in the corner there were {adj} {thing:s} and {adj:a} {thing}.
{he} decided to {do} instead of waiting.
{weather}, so {he} {do:past} {how}.
they talked about {thing:s} and {thing:s} until {sound} interrupted them.
{he} put the {thing} next to the {thing} and smiled.
"do you like to {do}?" asked {friend}. "only {when}," {said} {name}.
"where is the {thing}?" asked the {person}. "behind the {adj} {thing}," {said} {name}.
{name} was {mood}, {friend} was {mood}, and the {person} was simply {mood}.
the {trait} {person} shook {his} head and {do:past}.
not far away, {trait:a} {person} was {do:ing}.
{he} spent the whole day {do:ing}.
{do:ing} made {him} {mood}.
both of them kept {do:ing} until it was dark.
"""
ENDINGS = """
{ending}.
{lesson}.
{name} was {mood} and went home.
"{speech}," {said} {friend}, and both of them laughed.
that is how {name} learned to {do}.
since that day, {name} never forgets to {do}.
the {thing} is still {place}.
"""

# Whole paragraphs of other kinds.
PARAGRAPHS = """
to make {dish:a} with {veg}, {cut} the {veg} and {cut} some {veg}. heat {fat} in {pot} and cook the {veg}
  {heat} for {minutes} until they are {look}. add {protein}, {spice} and {liquid}. let everything simmer for
  {minutes}. {serve}. it goes well with {side} and a little {herb}.
for a simple {dish} with {protein}, you need {veg}, {veg}, {fat} and {spice}. first {cut} the {veg}. then fry
  the {protein} in {fat} until it is {look}. pour in some {liquid}, sprinkle with {herb} and cook it {heat}
  for {minutes}. {serve}.
rub the {protein} with {spice}, garlic and {fat}. roast it in a hot oven for {minutes}. meanwhile, boil the
  {veg} in salted water until they are {look}. mix them with {herb} and lemon juice. {serve}. it goes well
  with {side}.
this {dish} is made with {protein}, {veg} and {herb}. it is best {when}. some cooks add {spice} or {liquid},
  but others prefer it plain with {side}. if it tastes too sour, add a pinch of sugar. {serve}.
wash the {fruit}, remove the stones or seeds and {cut} them. cook them with sugar and a little {liquid} for
  {minutes}. stir often, so that nothing burns. fill the jam into clean jars and close the lids tightly.
beat the butter with the sugar until it is {look}. add three eggs one by one, then the flour, some {spice} and
  a cup of milk. spread the {fruit} on top. bake the cake for {minutes} until a skewer comes out clean. dust
  it with icing sugar.
shopping list: {veg}, {veg}, {fruit}, {protein}, {fat}, {herb}, a loaf of bread, a dozen eggs and a bottle of
  {liquid}.
go straight ahead along {street} until you see the {shop}. turn left there and walk past the {shop}. the
  {sight} is on the right, opposite the {shop}. it takes about {minutes} on foot.
to reach the {sight}, take the {vehicle} from the station to {street}. get off at the third stop and cross the
  bridge. a ticket costs {price} {money}. the {sight} opens at {clock} {half} and is closed on Mondays.
our hotel is near the {sight}, not far from {street}. in the morning we had bread, {fruit} and coffee. then we
  took the {vehicle} to the {sight}. in the afternoon you can {activity} or {activity}. it was {forecast} but
  pleasant.
dear {name}, greetings from this {citytrait} city! we arrived by {vehicle} {when}. today we visited the
  {sight} and the {sight}. tomorrow we want to {activity}. the weather is {forecast}, and the food is
  excellent. yesterday I ate {protein} with {veg}. see you soon! love, {friend}.
the {citytrait} town has {citytrait:a} centre with {sight:a}, {sight:a} and many small cafés. visitors like to
  {activity}. in the evening they eat {protein} with {side}. the {transport} to the next village leaves every
  {minutes}.
it is {citytrait:a} and {citytrait} place. you should {activity}, and if you have time, {activity}. the
  {sight} is free on Sundays. a meal costs about {price} {money}, and a bed in a hostel costs {price} {money}
  more.
"excuse me, how do I get to the {sight}?" asked {name}. "take the {vehicle} to {street}, then turn right at
  the {shop}," {said} the {person}. "is it far?" "no, only {minutes} on foot." "thank you very much!" "you are
  welcome. have a nice day!"
"a ticket to {city}, please," {said} {name}. "single or return?" asked the clerk. "return, please. when does
  the next {vehicle} leave?" "at {clock} {half}, from platform {price}." "how much is it?" "{price} {money},
  please."
"good evening. have you got a table for two?" "yes, by the window. here is the menu." "I would like the {dish}
  with {veg}, please, and a glass of {liquid}." "and for you?" "the {protein} with {side}, but without
  {spice}." "certainly."
"do you have a free room?" asked {name}. "for how many nights?" asked the receptionist. "for {price} nights."
  "we have a single room with a shower. it costs {price} {money} a night, and breakfast is included." "that is
  fine. I will take it."
the weather today: in the {region} it will be {forecast} and {forecast}. in the {region} it stays {forecast}
  until the evening. the temperature rises to {price} degrees. tomorrow will be {forecast}, with {forecast}
  spells in the {region}.
dear {friend}, thank you for the {adj} {thing}. my {relative} was {mood} when I showed it to {him}. last week
  we {do:past}, and my {relative} {do:past}. please write soon and tell me if you still like to {do}. yours,
  {name}.
diary, {when}: today I was {mood}. I {do:past}, and later I {do:past} with my {relative}. {weather}. before
  going to bed I read about {adj} {thing:s}. tomorrow I must {do}.
lost: {adj:a} {thing}, last seen {place}. it belongs to my {relative}. whoever finds it gets {price} {money}.
  please ask for {name}.
for sale: {adj:a} {thing} and {price} {adj} {thing:s}. they are {adj} but in good condition. price: {price}
  {money}. call {name} {when}.
notice: visitors may not {do} here. please leave your {thing:s} at the entrance. the {person} will help you.
  thank you.
how to {do}: take your time and work {how}. ask {trait:a} {person} for advice. keep the {thing} close at hand.
  when you have finished, clean the {thing} and put everything away.
my {relative} is {trait} and {trait}. {when} we often {do} together. once we even {do:past}. I hope that we
  can {do} again next year.
a good {person} is {trait} and {trait}. {he} has to {do} and to {do}, often {when}. people who are too {trait}
  should choose another job.
{place} you can see {thing:a}, {thing:a} and sometimes {adj:a} {thing}. the {person} comes there to {do}.
  children like to {do}, while their parents {do}. it smells of {smell}.
every morning the {person} {do:third}. then {he} {do:third}. {he} never {do:third} {when}, because {reason}.
there are many ways to spend the day {place}: you can {do}, {do} or simply {do}. {lesson}.
minutes of the meeting: {name} reported on the {thing}. {friend} suggested to {do}. the {person} disagreed,
  because {reason}. the next meeting is {when}.
a {citytrait} town like this is usually worth a visit, especially {when}. the main sights are within walking
  distance, so you do not really need a {transport}. however, if you are in a hurry, you might prefer the
  {transport}, which is quite fast.
whether you travel alone or in a group, booking ahead is probably the best option {when}. accommodation can be
  expensive, yet a guesthouse near {street} offers good quality for {price} {money}. breakfast is often
  included, though you should ask again.
our itinerary was simple: first the {sight}, then lunch, and finally the {sight}. despite the weather, which
  was {forecast}, we had a great time. neither of us wanted to leave. next time I would rather stay for at
  least {price} days.
before you go on a long trip, check whether your passport is still valid. travel insurance is worth its price.
  take an adapter for your telephone, some sunscreen, a small first aid kit and a copy of every important
  document. do not carry all your money in one place.
arrivals are on the ground floor, and departures are upstairs. the airline allows one piece of hand baggage,
  which must not weigh more than {price} kilograms. if your flight is cancelled, you can get a refund or a
  seat on the next available plane.
the metro is the cheapest way to get around. a day ticket costs {price} {money} and is valid on the subway, on
  every bus and on the {transport}. you have to stamp it before you enter. otherwise, you may have to pay a
  fine.
how much time do you need? in fact, {price} days are enough for the {sight}, the {sight} and a short cruise.
  if you have more time, go further: the {citytrait} villages in the {region} are well worth seeing.
our budget was small, so we avoided the tourist restaurants. instead, we bought bread, cheese and {fruit} at
  the {shop} and ate in a park. it cost almost nothing, and it was actually more fun.
perhaps you wonder which season is best. {when} the city is full and prices rise. in the low season there are
  hardly any queues, but several sights are closed. generally, the weeks between the two seasons are a good
  choice.
excuse me, is this seat taken? no, please sit down. are you travelling far? only to {city}. and you? I am
  going all the way to {city}, where my {relative} lives. then we shall have plenty of time to talk.
preheat the oven to two hundred degrees. line a tray with baking paper. mix the {veg} with a tablespoon of
  {fat}, a teaspoon of {spice} and half a teaspoon of salt. roast them for {minutes} and turn them once, so
  that both sides become {look}.
for the marinade, mix {fat}, the juice of a lemon, crushed garlic, {herb} and {spice}. put the {protein} into
  it, cover the bowl and leave it in the fridge for at least one hour, or better overnight. remove the
  {protein} and grill it for {minutes}.
for the dough, put three hundred grams of flour into a bowl. add a packet of yeast, a pinch of salt and a cup
  of lukewarm water. knead everything until the dough is smooth. let it rise in a warm place for {minutes},
  until it has doubled in size.
bring a litre of {liquid} to the boil. add the {veg} and the {protein}. reduce the heat and let it simmer
  {heat} for {minutes}. skim off the foam, season to taste and stir in some {herb}. leftovers keep for two
  days in the fridge.
blanch the {veg} in boiling water for {minutes}, then rinse them under cold water, so that they keep their
  colour. caramelise a little sugar in {fat}, add the {veg} and shake the pan until they are covered with a
  shiny glaze.
if you are vegan, replace the butter with {fat} and the milk with soy milk or oat milk. people who cannot eat
  gluten should use rice flour or maize flour instead of wheat flour. always read the labels, because many
  sauces contain nuts, milk or eggs.
a sharp knife is safer than a blunt one, since you need less force. hold the {veg} with your fingertips bent
  and {cut} them evenly. pieces of the same size are ready at the same time, which is the main reason for
  cutting carefully.
too salty? add more {liquid} or an unsalted side such as {side}. too thin? let it boil down without a lid, or
  stir in a spoonful of flour. too thick? simply add {liquid}. too spicy? yogurt or coconut milk will make it
  milder.
the crust should be crisp and the filling creamy. sprinkle the topping of breadcrumbs, parmesan and {herb}
  over the {veg} and bake the dish for {minutes}. if the top becomes too dark, cover it loosely with foil.
which {protein} should you choose? a tender fillet needs only a few minutes, whereas a tough piece such as a
  thigh, a rib or a shoulder should be braised slowly with {liquid}, {veg} and {herb}. in either case, let the
  meat rest before you slice it.
toast the {spice} in a dry pan for a moment until it smells good. then sauté the {veg} in {fat}. as soon as
  they are {look}, pour in the {liquid}. serve the {dish} with {side}, sliced avocado, feta or mozzarella.
I have already tried this {dish} with {protein}, and it was delicious. however, I would use less {spice} and
  more {herb} next time. my {relative} thought that it was a bit too heavy, but nobody left anything on the
  plate.
it does not matter whether you {do} first or {do} first, unless {reason}. in general, it is useful to have
  both done before the {person} comes back. otherwise somebody else will probably have to do it again.
on the one hand, it is nice to {do} {when}. on the other hand, it costs time, and not everybody can afford it.
  therefore many people would rather {do}, which is almost as interesting. it depends on what you expect.
there are several reasons why people like to {do}. first of all, it is good for body and mind. besides, you
  can do it alone or together with others. finally, it does not cost very much. the only disadvantage is that
  you need {adj:a} {thing}.
nowadays hardly anybody wants to {do}. in the past, however, it was quite common {place}. people used {adj:a}
  {thing}, and even children knew how to {do}. although these times are over, my {relative} still talks about
  them.
would you mind if I asked you something? not at all. do you happen to know anyone who could {do}? yes, my
  {relative} does that quite often. she will certainly be able to help you, provided that {reason}.
I am afraid that I cannot come tonight, since I have to {do}. could we perhaps meet tomorrow instead? I might
  bring my {relative} along, if that is all right with you. let me know as soon as possible.
according to the {person}, {thing:s} like these were among the most {adj} in the country. each of them took
  {price} months to make, and only a few have survived. most people walk past without noticing them.
compared with last year, there are now twice as many {thing:s} {place}. that is partly because {reason}, and
  partly because the {person} likes them. whatever the cause, the result is rather {adj}.
as far as I know, nothing of the kind had ever happened before. {name} was about to {do} when, all of a
  sudden, {sound} could be heard. everyone looked towards the {thing}. for a moment nobody moved. then, at
  last, {friend} began to laugh.
it seems that {name} is not {mood} any more. in fact, {he} has been {mood} ever since {he} {do:past}. as a
  result, {he} now prefers to {do}. of course, that may change within a week.
neither {name} nor {friend} had expected this. {name} received a letter with an offer that sounded too good to
  be true: all {he} had to do was {do} and, moreover, {do}. "shall we accept it?" {friend} wondered.
  "{speech}," {said} {name}.
in order to {do} properly, you have to practise. even so, do not worry if it does not work at once. everybody
  makes mistakes at the beginning. take a short break, think about what went wrong and try again. step by step
  you will improve.
the first floor has a kitchen and a living room, each with a large window. upstairs there are two bedrooms,
  one of which has its own bathroom. the apartment is {adj} and {adj}. from the balcony you can see the
  {sight}. the rent is {price} hundred {money} a month.
my {relative} works as {trait:a} {person}. {he} starts at {clock} {half} and usually finishes at {clock}
  {half}. between the two, {he} hardly has a minute to rest. nevertheless, {he} likes the job, above all when
  {he} can {do}.
attention, please! the {transport} to {city} will leave from platform {price} instead of platform {price}. we
  expect a delay of about {minutes}. passengers to {city} should change at the next station. we apologise for
  any inconvenience.
question of the week: is it better to {do} or to {do}? {name} says that the former is healthier. {friend}
  believes that the latter is more fun. both agree on one point: whoever does nothing at all has the least to
  tell.
"""

# -------------------------------------------------------------------------------------- words and forms


class Word(str):
    """A table entry; ``mass`` words (``*butter`` in the tables) take no article and no plural."""

    mass: bool

    def __new__(cls, text: str) -> "Word":
        word = super().__new__(cls, text.lstrip("*"))
        word.mass = text.startswith("*")
        return word


def rows(text: str) -> list[str]:
    """The rows of a table: its lines, indented ones joined to the line before; ``;`` ends a row as well."""
    joined = re.sub(r"\n\s+", " ", text.strip("\n"))
    return [row.strip() for row in re.split(r"\n|; ", joined) if row.strip()]


def pairs_of(text: str) -> dict[str, str]:
    """A two-column table as a dictionary."""
    return dict(row.split("|", 1) for row in rows(text))


IRREGULAR_PLURALS = pairs_of(PLURALS)
IRREGULAR_PASTS = pairs_of(PAST_TENSES) | {"beat": "beat", "withdraw": "withdrew", "overtake": "overtook"}
DOUBLED = set(  # verbs that double their last letter: stop, stopped, stopping
    [
        "begin",
        "cancel",
        "chat",
        "chop",
        "clap",
        "cut",
        "dig",
        "drag",
        "drip",
        "drop",
        "drum",
        "fit",
        "forget",
        "get",
        "grab",
        "hit",
        "hop",
        "hug",
        "hum",
        "jog",
        "knit",
        "label",
        "let",
        "mop",
        "nod",
        "pat",
        "pin",
        "plan",
        "put",
        "rip",
        "rub",
        "run",
        "scrub",
        "set",
        "shop",
        "shut",
        "sip",
        "sit",
        "skip",
        "slip",
        "snap",
        "spin",
        "split",
        "spot",
        "step",
        "stir",
        "stop",
        "swap",
        "swim",
        "tap",
        "trim",
        "trip",
        "tug",
        "unwrap",
        "whip",
        "win",
        "wrap",
        "zip",
    ]
)


def with_article(word: str) -> str:
    """``a museum``, ``an oven``; mass words, proper names and words that have an article stay as they are."""
    if getattr(word, "mass", False) or word[0].isupper() or word.startswith("the "):
        return word
    vowel = re.match(r"hour|honest|heir|[aeioué]", word) and not re.match(r"uni(?!n)|us[eu]|eu|one\b", word)
    return f"{'an' if vowel else 'a'} {word}"


def plural(word: str) -> str:
    """The plural of a noun or of the first noun in ``loaf of bread`` and ``table by the window``."""
    if getattr(word, "mass", False):
        return str(word)
    head, rest = re.fullmatch(r"(.*?)( (?:of|by|in) .*)?", word).groups(default="")
    before, noun = re.fullmatch(r"(.* )?(\S+)", head).groups(default="")
    if noun in IRREGULAR_PLURALS:
        noun = IRREGULAR_PLURALS[noun]
    elif re.search(r"(s|x|z|ch|sh)$", noun):
        noun += "es"
    elif re.search(r"[^aeiou]y$", noun):
        noun = noun[:-1] + "ies"
    else:
        noun += "s"
    return before + noun + rest


def past(phrase: str) -> str:
    """The phrase with its first word, a verb, in the past tense."""
    verb, space, rest = phrase.partition(" ")
    if verb in IRREGULAR_PASTS:
        verb = IRREGULAR_PASTS[verb]
    elif verb in DOUBLED:
        verb += verb[-1] + "ed"
    elif verb.endswith("e"):
        verb += "d"
    elif re.search(r"[^aeiou]y$", verb):
        verb = verb[:-1] + "ied"
    else:
        verb += "ed"
    return verb + space + rest


def third_person(phrase: str) -> str:
    """The phrase with its first word, a verb, as ``he`` or ``she`` does it."""
    verb, space, rest = phrase.partition(" ")
    if re.search(r"(s|x|z|ch|sh|o)$", verb):
        verb += "es"
    elif re.search(r"[^aeiou]y$", verb):
        verb = verb[:-1] + "ies"
    else:
        verb += "s"
    return verb + space + rest


def ing(phrase: str) -> str:
    """The phrase with its first word, a verb, in the ``-ing`` form."""
    verb, space, rest = phrase.partition(" ")
    if verb.endswith("ie"):
        verb = verb[:-2] + "y"
    elif verb in DOUBLED:
        verb += verb[-1]
    elif re.search(r"[^eoy]e$", verb):
        verb = verb[:-1]
    return verb + "ing" + space + rest


def with_be(word: str) -> str:
    """The subject with ``is`` or ``are``."""
    are = word in ("the Alps", "the Andes", "the Himalayas", "Niagara Falls")
    return f"{word} {'are' if are else 'is'}"


def legs(number: str) -> str:
    """``four legs`` for ``4``, ``no legs`` for ``0``."""
    return "no legs" if number == "0" else f"{NUMBER_WORDS[int(number)]} legs"


FORMS: dict[str, Callable[[str], str]] = {
    "a": with_article,
    "s": plural,
    "past": past,
    "third": third_person,
    "ing": ing,
    "be": with_be,
    "legs": legs,
}


def fill(template: str, pick: Callable[[str], str]) -> str:
    """Replace each ``{name}`` or ``{name:form}`` by ``pick(name)`` in that form; capitalise the sentences."""

    def replace(slot: re.Match[str]) -> str:
        word = pick(slot[1])
        return FORMS[slot[2]](word) if slot[2] else word

    text = re.sub(r"\{(\w+)(?::(\w+))?\}", replace, template)
    return re.sub(r'(^"?|[.!?] "?|[.!?]" ")([a-zé])', lambda start: start[1] + start[2].upper(), text)


# ------------------------------------------------------------------------------- questions and answers


def numbered(columns: list[str]) -> dict[str, Word]:
    """The columns of a row by the numbers that stand for them in templates."""
    return {str(number): Word(column) for number, column in enumerate(columns)}


def ask(questions: str, columns: list[str]) -> Iterator[Pair]:
    """All questions of a question table about one row of facts; rows that lack a used column are left out."""
    words = numbered(columns)
    for line in rows(questions):
        phrasings, answer = line.rsplit(" => ", 1)
        if any(words[number] == "-" for number in re.findall(r"\{(\d)", line)):
            continue
        for phrasing in phrasings.split(" / "):
            yield fill(phrasing, words.__getitem__), fill(answer, words.__getitem__)


def ask_table(facts: str, questions: str) -> Iterator[Pair]:
    """All questions of a question table about all facts of a table."""
    for row in rows(facts):
        yield from ask(questions, row.split("|"))


def ask_categories() -> Iterator[Pair]:
    """What kind of thing something is, yes/no questions about it, and examples of each kind."""
    members = {kind: items.split(", ") for kind, items in (row.split("|") for row in rows(CATEGORIES))}
    # Kinds that overlap: nobody is told that something of the one kind is not of the other.
    overlapping = [
        {"fruit", "vegetable", "herb", "spice", "nut", "grain", "tree"},
        {"drink", "dish", "sweet treat", "dairy food", "meal", "grain"},
        {"tool", "kitchen tool", "container", "aircraft"},
        {"vehicle", "boat", "aircraft", "toy"},
        {"sport", "game", "toy", "musical instrument", "school subject", "language"},
        {"gemstone", "metal", "planet", "shape", "flower"},
    ]
    for position, (kind, items) in enumerate(members.items()):
        close = set().union(*(group for group in overlapping if kind in group))
        others = [other for other in members if other != kind and other not in close]
        yield from ask(CATEGORY_LIST, [kind, *items[:3]])
        for number, item in enumerate(items):
            yield from ask(CATEGORY_YES, [item, kind])
            for step in (1, 5, 11):
                wrong = others[(position + number + step * (number + 1)) % len(others)]
                yield from ask(CATEGORY_NO, [item, kind, wrong])


def ask_scales() -> Iterator[Pair]:
    """Comparisons of any two things on a scale."""
    for row in rows(SCALES):
        comparative, items = row.split("|")
        for less, more in combinations(items.split(", "), 2):
            yield from ask(SCALE_QUESTIONS, [comparative, less, more])


def ask_circles() -> Iterator[Pair]:
    """What comes before and after each day, month and season."""
    for row in rows(CIRCLES):
        kind, items = row.split("|")
        names = items.split(", ")
        for before, after in zip(names, names[1:] + names[:1], strict=True):
            yield from ask(CIRCLE_QUESTIONS, [kind, before, after])


def ask_numbers() -> Iterator[Pair]:
    """Small sums, differences and products, in figures and in words, and the order of numbers."""
    for first in range(21):
        for second in range(21):
            yield from ask(SUM_QUESTIONS, [str(first), str(second), str(first + second)])
            if first + second <= 20:
                yield from ask(SUM_QUESTIONS, [NUMBER_WORDS[n] for n in (first, second, first + second)])
            if first <= 10 and second <= 10:
                yield from ask(MULTIPLY_QUESTIONS, [str(first), str(second), str(first * second)])
    for number in range(100):
        yield from ask(NUMBER_QUESTIONS, [str(number), str(number + 1)])


def question_groups() -> list[list[Pair]]:
    """All question-answer pairs, grouped by kind; of several answers to one question, the first one stays."""
    tables = (
        (COUNTRIES, COUNTRY_QUESTIONS),
        (CITIES, CITY_QUESTIONS),
        (LANDMARKS, LANDMARK_QUESTIONS),
        (GREETINGS, GREETING_QUESTIONS),
        (ANIMALS, ANIMAL_QUESTIONS),
        (PRODUCTS, PRODUCT_QUESTIONS),
        (THINGS, THING_QUESTIONS),
        (ACTIONS, ACTION_QUESTIONS),
        (QUALITIES, QUALITY_QUESTIONS),
        (OPPOSITES, OPPOSITE_QUESTIONS),
        (SYNONYMS, SYNONYM_QUESTIONS),
        (PLURALS, PLURAL_QUESTIONS),
        (PAST_TENSES, PAST_QUESTIONS),
        (JOBS, JOB_QUESTIONS),
        (TOOLS, TOOL_QUESTIONS),
        (COLOURS, COLOUR_QUESTIONS),
        (MATERIALS, MATERIAL_QUESTIONS),
        (FOODS, FOOD_QUESTIONS),
        (SHOPS, SHOP_QUESTIONS),
        (BODY, BODY_QUESTIONS),
        (SPORTS, SPORT_QUESTIONS),
        (PLANETS, PLANET_QUESTIONS),
        (UNITS, UNIT_QUESTIONS),
    )
    answers = [pair for line in rows(ANSWERS) for pair in ask(line, [])]
    groups = [answers, *(list(ask_table(*table)) for table in tables)]
    groups += [list(ask_categories()), list(ask_scales()), list(ask_circles()), list(ask_numbers())]
    known: dict[str, str] = {}
    unique = []
    for group in groups:
        new = {question: answer for question, answer in reversed(group) if question not in known}
        known |= new
        unique.append(list(new.items()))
    return unique


# ------------------------------------------------------------------------------------------- documents

SYSTEM_MESSAGES = (
    "You are a helpful assistant.",
    "You are a friendly assistant. Answer in one or two sentences.",
    "Answer the question briefly.",
    "You answer simple questions about the world.",
    "Be polite and helpful.",
)
BEFORE = ("Hello! ", "Hi, ", "Please tell me: ", "I have a question. ", "Quick question: ", "Excuse me, ")
AFTER = (" Thank you.", " Thanks!", " Please answer.", " I would like to know.")


def styled(question: str, rng: random.Random) -> str:
    """The question as different people type it: small letters, no punctuation, with a greeting..."""
    style = rng.random()
    if style < 0.45:
        return question
    if style < 0.70:
        return question.lower().rstrip("?.! ")
    if style < 0.80:
        return question.lower()
    if style < 0.88:
        return question.rstrip("?.! ")
    if style < 0.95:
        return rng.choice(BEFORE) + question
    return question + rng.choice(AFTER)


def chat(groups: list[list[Pair]], weights: list[float], rng: random.Random) -> str:
    """A chat of one to three questions and answers, at times with a system message, in the chat format."""
    turns = [("system", rng.choice(SYSTEM_MESSAGES))] if rng.random() < 0.15 else []
    for group in rng.choices(groups, weights, k=rng.choice((1, 1, 1, 1, 1, 1, 2, 2, 3))):
        question, answer = rng.choice(group)
        turns += [("user", styled(question, rng)), ("assistant", answer)]
    return "".join(f"<|{role}|>\n{content}<|end|>\n" for role, content in turns)


@dataclass(frozen=True)
class Scene:
    """A place with the things and people there and what they do."""

    place: str
    things: list[str]
    people: list[str]
    doings: list[str]


def read_scenes() -> list[Scene]:
    """The table of scenes."""
    columns = [row.split("|") for row in rows(SCENES)]
    return [Scene(place, *(cell.split(", ") for cell in cells)) for place, *cells in columns]


def read_words() -> dict[str, list[str]]:
    """The table of words by symbol, and the cities as ``city``."""
    lines = (row.split(": ", 1) for row in rows(WORDS))
    words = {symbol: choices.split(" / ") for symbol, choices in lines}
    return words | {"city": [row.split("|")[0] for row in rows(CITIES)]}


class Writer:
    """Writes plain paragraphs: stories in one scene, recipes, letters, directions, and facts in a row."""

    def __init__(self, groups: list[list[Pair]]) -> None:
        self.groups = groups
        self.scenes = read_scenes()
        self.words = read_words()
        self.openings, self.middles, self.endings = rows(OPENINGS), rows(MIDDLES), rows(ENDINGS)
        self.paragraphs = rows(PARAGRAPHS)
        self.portraits = [
            fill(story, numbered(row.split("|")).__getitem__)
            for facts, story in (
                (COUNTRIES, COUNTRY_STORY),
                (CITIES, CITY_STORY),
                (ANIMALS, ANIMAL_STORY),
                (THINGS, THING_STORY),
                (JOBS, JOB_STORY),
            )
            for row in rows(facts)
        ]

    def paragraph(self, rng: random.Random) -> str:
        """One paragraph of a random kind."""
        kind = rng.random()
        if kind < 0.1:
            return " ".join(rng.sample(self.portraits, rng.randint(1, 4)))
        if kind < 0.2:
            group = rng.choice(self.groups)
            return " ".join(dict.fromkeys(rng.choice(group)[1] for _ in range(rng.randint(2, 5))))
        pick = self.cast(rng)
        if kind < 0.6:
            templates = [rng.choice(self.openings), *rng.sample(self.middles, rng.randint(1, 6))]
            if rng.random() < 0.6:
                templates.append(rng.choice(self.endings))
        else:
            templates = [rng.choice(self.paragraphs)]
        return " ".join(fill(template, pick) for template in templates)

    def cast(self, rng: random.Random) -> Callable[[str], str]:
        """A picker of words for one text: it keeps to one scene and to the same people."""
        scene = rng.choice(self.scenes)
        he = rng.choice(list(NAMES))
        fixed = {
            "he": he,
            "him": {"she": "her", "he": "him"}[he],
            "his": {"she": "her", "he": "his"}[he],
            "name": rng.choice(NAMES[he].split()),
            "friend": rng.choice([name for names in NAMES.values() for name in names.split()]),
            "place": scene.place,
            "person": rng.choice(scene.people),
        }
        free = self.words | {"thing": scene.things, "do": scene.doings}
        recent: list[str] = []

        def pick(symbol: str) -> str:
            if symbol in fixed:
                return fixed[symbol]
            choices = free[symbol]
            word = rng.choice(choices)
            while word in recent[-6:] and len(choices) > 6:
                word = rng.choice(choices)
            recent.append(word)
            return word

        return pick


def is_held_out(text: str) -> bool:
    """Whether a question (as written in the tables) or a paragraph is kept for the held-out set: 1 in 40."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 40 == 0


def make_documents(seed: int, size: int) -> tuple[list[str], list[str]]:
    """About ``size`` bytes of text as two lists of documents, for training and held out.

    A document is a plain paragraph or a chat in the chat format. No question phrasing about a fact (whatever
    its style) and no paragraph is in both lists. The held-out documents are about 1 in 40 and all differ.
    """
    rng = random.Random(seed)
    everything = question_groups()
    sides = [
        [kept for group in everything if (kept := [pair for pair in group if is_held_out(pair[0]) == side])]
        for side in (False, True)
    ]
    weights = [[len(group) ** 0.5 for group in groups] for groups in sides]
    writer = Writer(everything)
    documents: tuple[list[str], dict[str, None]] = ([], {})
    written = 0
    while written < size:
        if rng.random() < 0.66:
            held_out = rng.random() < 1 / 40
            text = chat(sides[held_out], weights[held_out], rng)
        else:
            text = writer.paragraph(rng)
            held_out = is_held_out(text)
        if held_out:
            documents[1][text] = None
        else:
            documents[0].append(text)
        written += len(text.encode())
    return documents[0], list(documents[1])
